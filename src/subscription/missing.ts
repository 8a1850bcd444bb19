/** Paths that a subscription lacks. */
import { NarswarmError, type ErrorCode } from '../errors.ts';
import type { Failure } from '../failure.ts';
import type { Loss } from '../store/damage/fault.ts';

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

/** Makes the error of missing paths. People get it in other words. */
export function lackError(code: ErrorCode, { first, count }: Lack): NarswarmError {
  const more = count > 1 ? `, and ${count - 1} more` : '';
  const why = 'reason' in first ? `: ${first.reason}` : '';
  return new NarswarmError(code, `${first.path} is missing${more}${why}`, {
    facts: { path: first.path, missing: count },
  });
}
