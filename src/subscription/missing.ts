/** Paths that a subscription lacks. */
import { NarswarmError, type ErrorCode } from '../errors.ts';
import type { Failure } from '../failure.ts';

/** A path that is missing, and why, as a state has it. */
export interface Missing extends Failure {
  readonly path: string;
}

/** What a run failed of where that is paths that are missing. */
export interface Lack {
  /** One of them; the others may be missing for other reasons. */
  readonly first: Missing;
  /** How many are missing. */
  readonly count: number;
}

/** Paths that were left out and that a note names. */
const NAMED_LEFT_OUT = 5;

/** Makes the error of a lack, which a person is told in words made of the lack itself. */
export function lackError(code: ErrorCode, { first, count }: Lack): NarswarmError {
  const more = count > 1 ? `, and ${count - 1} more` : '';
  return new NarswarmError(code, `${first.path} is missing${more}: ${first.reason}`, {
    facts: { path: first.path, missing: count },
  });
}

/** The note that paths are in no cache and were left out, with the names of the first few. */
export function leftOutNote(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_LEFT_OUT).join(', ');
  const more = paths.length > NAMED_LEFT_OUT ? `, and ${paths.length - NAMED_LEFT_OUT} more` : '';
  return `${paths.length} of its paths ${paths.length === 1 ? 'is in no cache and was' : 'are in no cache and were'} left out: ${named}${more}`;
}
