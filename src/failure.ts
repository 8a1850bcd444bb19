/** Failures as data, kept in state files. cli/ puts them into words. */
import { isNarswarmError, NarswarmError, type ErrorCode, type ErrorFacts } from './errors.ts';

/** A failure as it is written to files. States of earlier versions have only the reason. */
export interface Failure {
  /** The message of the error, unchanged. */
  readonly reason: string;
  readonly code?: ErrorCode;
  readonly facts?: ErrorFacts;
  /** The failures of the sources that were asked. */
  readonly causes?: readonly Failure[];
}

/** Describes an error, with the failures that caused it. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof NarswarmError)) return { reason: error instanceof Error ? error.message : String(error) };
  const { code, message: reason, facts, cause } = error;
  const causes = causesOf(cause).map(failureOf);
  return {
    reason,
    code,
    ...(Object.keys(facts).length > 0 && { facts }),
    ...(causes.length > 0 && { causes }),
  };
}

/** Returns the failures in an `AggregateError`, or the one error that was thrown. */
export function failuresOf(thrown: unknown): readonly Failure[] {
  const errors: unknown[] = thrown instanceof AggregateError && thrown.errors.length > 0 ? thrown.errors : [thrown];
  return errors.map(failureOf);
}

function causesOf(cause: unknown): readonly unknown[] {
  if (cause instanceof AggregateError) return cause.errors;
  return isNarswarmError(cause) ? [cause] : [];
}
