import { isNarswarmError, NarswarmError } from '../errors.ts';

/** Faults of signed contents: without the publisher's name nobody knows whom to tell, or to stop following. */
const OF_CONTENT = ['INDEX_INVALID', 'INDEX_SIGNATURE', 'INDEX_ROLLBACK', 'INDEX_EXPIRED'] as const;

/** The same error with the publisher's address; the very one if it is of something else, or has it already. */
export function ofPublisher(error: unknown, address: string): unknown {
  if (!isNarswarmError(error, ...OF_CONTENT) || error.facts['publisher'] !== undefined) return error;
  return new NarswarmError(error.code, `${error.message} (publisher ${address})`, {
    cause: error,
    facts: { ...error.facts, publisher: address },
  });
}
