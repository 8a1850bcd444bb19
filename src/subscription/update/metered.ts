import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { NarswarmError } from '../../errors.ts';
import { asError } from '../../warning.ts';

/** The behaviour on a metered line of updates that nobody waits for. */
export const METERED = ['use', 'avoid'] as const;
export type Metered = (typeof METERED)[number];

/** Limit on the question. */
const ANSWER_MS = 2_000;
/** Interval of the questions while an update runs. Each takes 5 to 10 ms of a processor. */
const ASK_EVERY_MS = 10_000;
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
 * Asks NetworkManager whether the line to the internet is metered, such as that of a phone. Without an answer in time it is
 * not.
 *
 * @param debug called with the reason if there is no answer
 * @returns undefined if there is no NetworkManager here, as on most servers
 */
export async function isMetered(signal: AbortSignal, debug: (text: string) => void): Promise<boolean | undefined> {
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
    const { killed } = error as { readonly killed?: boolean }; // it has waited too long for the answer
    return killed === true ? false : undefined;
  }
}

/** A signal that aborts with INTERRUPTED when the line becomes metered. */
export interface MeteredWatch extends AsyncDisposable {
  readonly signal: AbortSignal;
}

/**
 * Watches whether the line becomes metered, as when a laptop moves to the hotspot of a phone. Asks from time to time:
 * listening on the bus would need the rights of root.
 */
export function watchMetered({ everyMs = ASK_EVERY_MS } = {}): MeteredWatch {
  const metered = new AbortController();
  const closed = new AbortController();
  const watch = async (): Promise<void> => {
    while (!metered.signal.aborted) {
      await sleep(everyMs, undefined, { signal: closed.signal });
      if ((await isMetered(closed.signal, () => undefined)) === true) metered.abort(becameMetered());
    }
  };
  const watching = watch().catch(() => undefined); // closed
  return {
    signal: metered.signal,
    async [Symbol.asyncDispose]() {
      closed.abort();
      await watching;
    },
  };
}

/** The failure of an update that waits for another line. */
export function meteredError(): NarswarmError {
  return new NarswarmError(
    'INTERRUPTED',
    'the internet line is metered, so nothing was fetched; the next update looks again, and narswarm update --metered use fetches now',
    { facts: { metered: true } },
  );
}

function becameMetered(): NarswarmError {
  return new NarswarmError(
    'INTERRUPTED',
    'stopped, since the internet line has become metered; the next update looks again, and narswarm update --metered use continues now',
    { facts: { metered: true } },
  );
}
