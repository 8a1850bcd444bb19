import { isNarswarmError, NarswarmError } from '../../errors.ts';

/**
 * Faults of signed contents. Their message must name the publisher, so that people know whom to inform or to stop
 * following.
 */
const OF_CONTENT = ['INDEX_INVALID', 'INDEX_SIGNATURE', 'INDEX_ROLLBACK', 'INDEX_EXPIRED'] as const;

/**
 * Adds the publisher's address to an error. Returns the same object for other errors, or if the address is already
 * there.
 */
export function ofPublisher(error: unknown, address: string): unknown {
  if (!isNarswarmError(error, ...OF_CONTENT) || error.facts['publisher'] !== undefined) return error;
  return new NarswarmError(error.code, `${error.message} (publisher ${address})`, {
    cause: error,
    facts: { ...error.facts, publisher: address },
  });
}
