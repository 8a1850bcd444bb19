/** Paths that a subscription lacks. */
import { NarswarmError, type ErrorCode } from '../../errors.ts';
import type { Failure } from '../../failure.ts';
import type { Loss } from '../../store/damage/fault.ts';

/** A missing path and the reason, as in a state. */
export type Missing = NotFetched | LostFromStore;

/** A path that could not be fetched. */
interface NotFetched extends Failure {
  readonly path: string;
}

/** A path that the store held before. */
export interface LostFromStore {
  readonly path: string;
  readonly loss: Loss;
}

/** A failure because of missing paths. */
export interface Lack {
  /** One of the missing paths. The others may be missing for other reasons. */
  readonly first: Missing;
  /** Number of missing paths. */
  readonly count: number;
}

/** Makes the error of missing paths. `cli/` says which and why (`missing-paths.ts`). */
export function lackError(code: ErrorCode, { first, count }: Lack): NarswarmError {
  return new NarswarmError(code, 'paths are missing', { facts: { path: first.path, missing: count } });
}
