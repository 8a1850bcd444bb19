import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { hashNar, type NarHashes } from './hash-nar.ts';

/** Below this a worker's start (40 ms) costs more than it saves. */
const WORTH_A_WORKER_BYTES = 64 * 1024 * 1024;
/** Files that are known ahead, so that a large one is begun early. */
const WINDOW = 4096;

/** What a worker is asked, and answers. */
export interface HashRequest {
  readonly path: string;
}
export type HashReply = { readonly hashes: NarHashes | undefined } | { readonly failure: string };

/**
 * Hashes NAR files, as many at a time as there are processors, of those that are known ahead the largest first. Yields
 * in the order in which they are done. A file that cannot be read holds up none of the others. However many there
 * are, no more than a few thousand are asked for ahead.
 *
 * @param onUnread told of files that cannot be read, with the reason, or without one where there is no such file
 * @throws the signal's reason; whatever `items` throws
 */
export async function* hashNars<T extends { readonly path: string; readonly sizeBytes: number }>(
  items: Iterable<T> | AsyncIterable<T>,
  signal?: AbortSignal,
  onUnread?: (item: T, reason: string | undefined) => void,
): AsyncGenerator<{ item: T; hashes: NarHashes }> {
  await using window = new Window(items);
  await window.fill();
  if (window.isAll && window.sizeBytes < WORTH_A_WORKER_BYTES) {
    for (const item of window.items) {
      signal?.throwIfAborted();
      let reason: string | undefined;
      const hashes = await hashNar(item.path, signal).catch((error: unknown) => {
        signal?.throwIfAborted();
        reason = (error as Error).message;
        return undefined;
      });
      if (hashes === undefined) onUnread?.(item, reason);
      else yield { item, hashes };
    }
    return;
  }
  window.sort();
  const workers = Array.from({ length: Math.min(availableParallelism(), window.items.length) }, startWorker);
  const inbox = new Inbox<{ worker: Worker; item: T; reply: HashReply }>();
  const abort = (): void => inbox.fail(signal?.reason as Error);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    let running = 0;
    const give = async (worker: Worker): Promise<void> => {
      const item = await window.next();
      if (item === undefined) return;
      running++;
      ask(worker, item.path).then(
        (reply) => inbox.put({ worker, item, reply }),
        (error: Error) => inbox.fail(error),
      );
    };
    for (const worker of workers) await give(worker);
    while (running > 0) {
      signal?.throwIfAborted();
      const { worker, item, reply } = await inbox.take();
      running--;
      await give(worker);
      if ('failure' in reply) onUnread?.(item, reply.failure);
      else if (reply.hashes === undefined) onUnread?.(item, undefined);
      else yield { item, hashes: reply.hashes };
    }
  } finally {
    signal?.removeEventListener('abort', abort);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/**
 * What the workers answer, in the order in which it comes. A Promise.race over a promise that lives as long as the
 * signal would keep every answer in memory.
 */
class Inbox<T> {
  readonly #items: T[] = [];
  #failure: Error | undefined;
  #wake = (): void => undefined;

  put(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  /** Nothing more is given out: whoever waits is told at once, so that nobody waits for a large file to be read. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  async take(): Promise<T> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const item = this.#items.shift();
      if (item !== undefined) return item;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** The files that come next, by size, of a list that may be long. */
class Window<T extends { readonly sizeBytes: number }> implements AsyncDisposable {
  readonly #source: Iterator<T> | AsyncIterator<T>;
  /** What is known, in the order in which it came, or once they are sorted, the largest last. */
  items: T[] = [];
  #isSorted = false;
  #isAll = false;
  /** Bytes of all that were ever known. */
  sizeBytes = 0;

  constructor(items: Iterable<T> | AsyncIterable<T>) {
    this.#source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  }

  /** True where no more will come than is known. */
  get isAll(): boolean {
    return this.#isAll;
  }

  async fill(): Promise<void> {
    while (!this.#isAll && this.items.length < WINDOW) {
      const next = await this.#source.next();
      if (next.done === true) this.#isAll = true;
      else this.#insert(next.value);
    }
  }

  /** From now on the largest is the next. */
  sort(): void {
    this.items = this.items.toSorted((a, b) => a.sizeBytes - b.sizeBytes);
    this.#isSorted = true;
  }

  async next(): Promise<T | undefined> {
    const item = this.items.pop();
    await this.fill();
    return item;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isAll) await this.#source.return?.();
  }

  #insert(item: T): void {
    this.sizeBytes += item.sizeBytes;
    if (!this.#isSorted) {
      this.items.push(item);
      return;
    }
    let [from, to] = [0, this.items.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.items[middle]?.sizeBytes ?? 0) < item.sizeBytes) from = middle + 1;
      else to = middle;
    }
    this.items.splice(from, 0, item);
  }
}

/** The worker lies beside this file: .ts in a checkout, .js once built. */
function startWorker(): Worker {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return new Worker(new URL(`./hash-worker.${extension}`, import.meta.url));
}

function ask(worker: Worker, path: string): Promise<HashReply> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (reply: HashReply) => {
      worker.off('error', reject);
      resolve(reply);
    });
    worker.postMessage({ path } satisfies HashRequest);
  });
}
