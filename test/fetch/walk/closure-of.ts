import type { Closure } from '../../../src/fetch/walk/closure.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { storeHashOf } from '../../../src/nix/store-path.ts';

/** Returns the closure of these narinfos alone. */
export function closureOf(...infos: readonly NarInfo[]): Closure {
  return new Map(infos.map((info) => [storeHashOf(info.storePath), info]));
}
