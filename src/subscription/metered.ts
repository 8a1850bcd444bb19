import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { NarswarmError } from '../errors.ts';
import { asError } from '../warning.ts';

/** The behaviour on a metered line of updates that nobody waits for. */
export const METERED = ['use', 'avoid'] as const;
export type Metered = (typeof METERED)[number];

/** Limit on the question. */
const ANSWER_MS = 2_000;
/** NM_METERED_YES and NM_METERED_GUESS_YES: NetworkManager's D-Bus types. */
const METERED_VALUES: ReadonlySet<unknown> = new Set([1, 3]);
const QUESTION = [
  '--system',
  '--json=short',
  'get-property',
  'org.freedesktop.NetworkManager',
  '/org/freedesktop/NetworkManager',
  'org.freedesktop.NetworkManager',
  'Metered',
];

/**
 * Asks NetworkManager whether the line to the internet is metered, such as that of a phone. Without an answer it is not:
 * most machines have no NetworkManager.
 *
 * @param debug called with the reason if there is no answer
 */
export async function isMetered(signal: AbortSignal, debug: (text: string) => void): Promise<boolean> {
  try {
    const { stdout } = await promisify(execFile)('busctl', QUESTION, {
      signal,
      timeout: ANSWER_MS,
      killSignal: 'SIGKILL',
    });
    const { data } = JSON.parse(stdout) as { readonly data?: unknown };
    return METERED_VALUES.has(data);
  } catch (error) {
    signal.throwIfAborted();
    debug(`whether the internet line is metered is not known: ${asError(error).message}`);
    return false;
  }
}

/** The failure of an update that waits for another line. */
export function meteredError(): NarswarmError {
  return new NarswarmError(
    'INTERRUPTED',
    'the internet line is metered, so nothing was fetched; the next update looks again, and narswarm update --metered use fetches now',
    { facts: { metered: true } },
  );
}
