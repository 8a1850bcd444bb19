/** Bounds of an operation. At `timeoutMs` it ends with its results so far; `signal` makes it reject with its reason. */
export interface DhtOperationOptions {
  /** Default: 30,000. A look-up among public nodes takes 5 to 15 s, since many of them are gone. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * The running calls of the library. The library never calls back once its node is destroyed, so each call ends at its
 * deadline or with {@link end}.
 */
export class DhtOperations {
  readonly #running = new Set<() => void>();
  #isEnded = false;

  /** Starts a call, and waits until it is done, for its deadline, or for {@link end}. @throws the signal's reason */
  async until(
    { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: DhtOperationOptions,
    start: (done: () => void) => unknown,
  ): Promise<void> {
    signal?.throwIfAborted();
    if (this.#isEnded || timeoutMs <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = (): void => resolve();
    const timer = setTimeout(end, timeoutMs);
    this.#running.add(end);
    signal?.addEventListener('abort', end);
    try {
      start(end);
      await promise;
    } finally {
      clearTimeout(timer);
      this.#running.delete(end);
      signal?.removeEventListener('abort', end);
    }
    signal?.throwIfAborted();
  }

  /** Ends the running calls with their results so far; later ones are not started. */
  end(): void {
    this.#isEnded = true;
    for (const end of this.#running) end();
  }
}

/** Returns a function that returns the remaining time of an operation with several calls. */
export function restOf(options: DhtOperationOptions): () => DhtOperationOptions {
  const endsAtMs = performance.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  return () => ({ ...options, timeoutMs: endsAtMs - performance.now() });
}
