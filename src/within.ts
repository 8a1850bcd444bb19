import { once } from 'node:events';

/**
 * Waits for a promise, for a limited time.
 *
 * @returns undefined after that time; the work continues, and its failure is ignored
 * @throws the error of the work within that time
 */
export async function withinMs<T>(durationMs: number, work: Promise<T>): Promise<T | undefined> {
  const { promise: isOver, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), durationMs);
  try {
    return await Promise.race([work, isOver]); // handles a later rejection, too
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for a promise until the signal is aborted. The work continues, and its failure is ignored. @throws the signal's reason */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  const stop = new AbortController();
  try {
    const aborted = once(signal, 'abort', { signal: stop.signal });
    aborted.catch(() => undefined);
    return await Promise.race([work, aborted.then(() => Promise.reject(signal.reason as Error))]);
  } finally {
    stop.abort();
  }
}
