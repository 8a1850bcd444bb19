import type { NarInfo } from '../../nix/narinfo.ts';
import type { FoundNarHash } from '../catalogue.ts';

/** Returns why the contents of a NAR are not the signed ones. Undefined if they are, or if nobody here can tell. */
export function faultOfContents(found: FoundNarHash | undefined, info: NarInfo): string | undefined {
  if (found === undefined || found === info.narHash) return undefined;
  return found.startsWith('none:')
    ? `it is no ${info.compression} file, holds more than the ${info.narSize} bytes that are signed, or does not fit its content address`
    : `its contents have the SHA-256 ${found}, signed is ${info.narHash}`;
}
