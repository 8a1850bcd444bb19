import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { Fault } from './fault.ts';
import type { LostNarInfo } from './lost-narinfos.ts';

/** A damaged or missing file. */
export interface Damage {
  /** The file, relative to the store: a NAR or a narinfo. */
  readonly file: string;
  /** The path that needs it. Undefined if no narinfo names the NAR, so that nothing is lost. */
  readonly storeHash: StoreHash | undefined;
  /** The store path, if its narinfo can be read. */
  readonly storePath: StorePath | undefined;
  readonly fault: Fault;
  /** Its place in quarantine. Undefined if it was not moved, since we may not read it or it is missing. */
  readonly quarantined: string | undefined;
  /** True for a file that was here once or should be, and is missing: removed by hand, or already in quarantine. */
  readonly isGone: boolean;
}

/** Makes the damage of a missing narinfo. */
export function damageOf({ storeHash, storePath, fault }: LostNarInfo): Damage {
  return { file: `${storeHash}.narinfo`, storeHash, storePath, fault, quarantined: undefined, isGone: true };
}
