import { isKnownCompression } from '../../nix/compression.ts';
import { verifiesContentAddress } from '../../nix/content-address.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { fingerprint, judgeSignature, type PublicKey } from '../../nix/signature.ts';
import type { Fault, UnsignedLine } from './fault.ts';

/** Unsigned lines that make Nix refuse a whole narinfo if they are malformed. */
const REFUSED = ['FileHash', 'FileSize', 'Deriver', 'CA'] as const;

/**
 * Returns why a narinfo's unsigned lines are damaged. Undefined if they are not. Some versions of Nix would refuse the
 * whole narinfo, or its import.
 *
 * @param text the file that `info` was read from
 */
export function faultOfUnsignedLines(text: string, info: NarInfo, keys: readonly PublicKey[]): Fault | undefined {
  const { ca, signatures, compression } = info;
  if (!isKnownCompression(compression)) return wrongLine('Compression', compression);
  if (ca !== undefined && !verifiesContentAddress(info)) return wrongLine('CA', ca);
  const message = Buffer.from(fingerprint(info));
  const wrong = signatures.find((signature) => judgeSignature(signature, message, keys) === 'wrong');
  if (wrong !== undefined) return wrongLine('Sig', wrong);
  const given = { FileHash: info.fileHash, FileSize: info.fileSize, Deriver: info.deriver, CA: ca };
  for (const key of REFUSED) {
    const [, value] = new RegExp(`^${key}: (?!unknown-deriver$|0$|sha(?:1|512)[:-])(.+)$`, 'm').exec(text) ?? [];
    if (value !== undefined && given[key] === undefined) return wrongLine(key, value);
  }
  return undefined;
}

function wrongLine(line: UnsignedLine, value: string): Fault {
  return { kind: 'wrong-line', line, value };
}
