/** Paths that a subscription lacks. */
import { NarswarmError, type ErrorCode } from '../errors.ts';
import type { Failure } from '../failure.ts';

/** A missing path and the reason, as in a state. */
export interface Missing extends Failure {
  readonly path: string;
}

/** A failure because of missing paths. */
export interface Lack {
  /** One of the missing paths. The others may be missing for other reasons. */
  readonly first: Missing;
  /** Number of missing paths. */
  readonly count: number;
}

/** Limit on left out paths that a note names. */
const NAMED_LEFT_OUT = 5;

/** Makes the error of a lack. People are told the lack in other words. */
export function lackError(code: ErrorCode, { first, count }: Lack): NarswarmError {
  const more = count > 1 ? `, and ${count - 1} more` : '';
  return new NarswarmError(code, `${first.path} is missing${more}: ${first.reason}`, {
    facts: { path: first.path, missing: count },
  });
}

/** Makes the note about paths that are in no cache and were left out. It names the first few. */
export function leftOutNote(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_LEFT_OUT).join(', ');
  const more = paths.length > NAMED_LEFT_OUT ? `, and ${paths.length - NAMED_LEFT_OUT} more` : '';
  return `${paths.length} of its paths ${paths.length === 1 ? 'is in no cache and was' : 'are in no cache and were'} left out: ${named}${more}`;
}
