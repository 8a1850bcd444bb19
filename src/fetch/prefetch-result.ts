import type { NarswarmError } from '../errors.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import type { BuildDifference } from '../index/quorum.ts';
import type { Closure, MissingPath } from './walk/closure.ts';
import type { MapDoubt } from './sources/hash-maps.ts';
import type { Plan } from './plan/plan.ts';
import type { Outsized } from './walk/roots.ts';

/** The result of a fetch, complete or not. */
export interface PrefetchResult {
  /** The complete part of the closure. */
  readonly closure: Closure;
  readonly plan: Plan;
  /** Bytes of each planned NAR that were held from earlier runs. */
  readonly begun: ReadonlyMap<FileHash, number>;
  /** The roots whose closure is complete. */
  readonly roots: readonly StorePath[];
  readonly imported: boolean;
  /** The requested roots, complete or not. */
  readonly wanted: readonly StoreHash[];
  /** Missing paths; empty without `keepGoing`. */
  readonly missing: readonly MissingPath[];
  /** True if `missing` is the result of an interruption. */
  readonly isInterrupted: boolean;
  /** The failure of the import; undefined without `keepGoing`. */
  readonly importFailure: NarswarmError | undefined;
  /** The publishers' hash maps that are kept editions. */
  readonly doubts: readonly MapDoubt[];
  /** Paths that publishers have built with different results. Empty without `require`. */
  readonly differences: readonly BuildDifference[];
  /** The part of whole hash maps that was left out because it is too large. Undefined if all of them fits. */
  readonly outsized: Outsized | undefined;
}
