import { NarswarmError } from '../../errors.ts';
import type { Output } from '../output.ts';
import { formatCount } from './values.ts';

/** An incomplete subscription and the reason. */
export interface Failed {
  readonly name: string;
  readonly error: NarswarmError;
  /** The failure in words. */
  readonly message: string;
}

/**
 * Throws an error about the incomplete subscriptions. People have already read the details of each; readers of JSON get
 * them in its message.
 *
 * @param total number of subscriptions that were checked
 * @throws an error of the class of the first failure
 */
export function throwIncomplete(output: Output, failed: readonly Failed[], total: number): void {
  const [first] = failed;
  if (first === undefined) return;
  const which = failed.map(({ name, message }) => (output.json ? `${name}: ${message}` : name));
  throw new NarswarmError(
    first.error.code,
    `${failed.length} of ${formatCount(total, 'subscription')} not complete: ${which.join(output.json ? '; ' : ', ')}`,
    { cause: first.error, facts: { failed: failed.length, total } },
  );
}
