import { NarswarmError } from '../errors.ts';
import type { Output } from './output.ts';
import { formatCount } from './values.ts';

/** A subscription that is not complete, and why. */
export interface Failed {
  readonly name: string;
  readonly error: NarswarmError;
  /** What it failed of, in words. */
  readonly message: string;
}

/**
 * Ends a command where subscriptions are not complete. People have read above what each of them lacks; whoever reads JSON
 * gets it in one message.
 *
 * @param total how many were looked at
 * @throws an error of the first one's class
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
