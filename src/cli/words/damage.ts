/** Puts damage of a store into words. */
import { quote } from '../../nix/quote.ts';
import type { Fault, UnsignedLine } from '../../store/damage/fault.ts';

/** Says why a file is damaged or missing, without naming the file. */
export function faultInWords(fault: Fault): string {
  switch (fault.kind) {
    case 'gone':
      return 'it was here, but no longer is';
    case 'damaged-narinfo':
      return 'its narinfo is damaged';
    case 'wrong-nar':
      return 'its NAR is not the signed one';
    case 'damaged-nar':
      return 'its NAR is damaged';
    case 'unusable-contents':
      return `it is not a valid ${fault.compression} file, holds more than the signed ${fault.narSize} bytes, or does not match its content address`;
    case 'other-contents':
      return `its contents have the SHA-256 ${fault.found}, and the signed one is ${fault.signed}`;
    case 'other-file':
      return `its SHA-256 is ${fault.found}, not ${fault.named}`;
    case 'lost-reference':
      return `${fault.referrer} refers to it, but it is not there`;
    case 'unreadable':
    case 'malformed-narinfo':
      return fault.reason;
    case 'other-path':
      return `it describes ${fault.path}`;
    case 'forged':
      return `its signature by ${fault.key} is wrong: it was altered`;
    case 'wrong-line':
      return `its ${fault.line}, ${quote(fault.value)}, ${WRONG[fault.line]}`;
    case 'wrong-url':
      return `its URL, ${quote(fault.url)}, names no file, but its NAR is here`;
    case 'wrong-file-size':
      return `its FileSize is ${fault.said}, but its NAR has ${fault.found} bytes`;
    case 'wrong-file-hash':
      return `it names a wrong FileHash for a correct NAR: ${faultInWords(fault.file)}`;
    case 'wrong-nar-named':
      return `it names a NAR with other contents: ${faultInWords(fault.contents)}`;
    default:
      return fault satisfies never;
  }
}

const WRONG: Readonly<Record<UnsignedLine, string>> = {
  Compression: 'is unknown',
  CA: 'is not that of the path',
  Sig: 'is malformed or wrong',
  FileHash: 'is malformed',
  FileSize: 'is malformed',
  Deriver: 'is malformed',
};
