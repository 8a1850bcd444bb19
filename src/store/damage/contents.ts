import type { NarInfo } from '../../nix/narinfo.ts';
import type { FoundNarHash } from '../catalogue/catalogue-entry.ts';
import type { ContentsFault } from './fault.ts';

/**
 * Returns why the contents of a NAR are not the signed ones. Undefined if they are, or if this cannot be decided here.
 */
export function faultOfContents(found: FoundNarHash | undefined, info: NarInfo): ContentsFault | undefined {
  if (found === undefined || found === info.narHash) return undefined;
  return found.startsWith('none:')
    ? { kind: 'unusable-contents', compression: info.compression, narSize: info.narSize }
    : { kind: 'other-contents', found, signed: info.narHash };
}
