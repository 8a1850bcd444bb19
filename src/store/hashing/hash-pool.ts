import { availableParallelism } from 'node:os';
import { isNarItself, readNar, type NarContents, type NarHashes } from './hash-nar.ts';
import { ReadingThread } from '../decoding/reading-thread.ts';
import { systemCode } from '../../disk/store-error.ts';
import { isNarswarmError } from '../../errors.ts';

/** Below this size, starting a worker (40 ms) takes longer than it saves. */
const WORTH_A_WORKER_BYTES = 64 * 1024 * 1024;
/** The same limit for files that are also decompressed: 30 MB of xz take a second. */
const WORTH_A_WORKER_CONTENTS_BYTES = 4 * 1024 * 1024;
/** Number of files known ahead, so that a large one begins early. */
const WINDOW = 4096;

/** A file to read. */
export interface HashItem {
  readonly path: string;
  readonly sizeBytes: number;
  /** How to decompress it. Default: only its own bytes are hashed. */
  readonly contents?: NarContents | undefined;
}

/** The reason why a file could not be read. */
export interface Unread {
  readonly reason: string;
  /** The system's code, such as `EIO`. */
  readonly code: string | undefined;
}

/**
 * Hashes NAR files, as many at a time as there are processors, the largest of the known ones first. Yields results as
 * they arrive. A file that cannot be read does not delay the others. Requests at most a few thousand files ahead.
 *
 * @param onUnread called with a file that cannot be read; without a reason if the file does not exist
 * @throws NIX_MISSING if a program that decompresses a file is missing; the signal's reason; errors of `items`
 */
export async function* hashNars<T extends HashItem>(
  items: Iterable<T> | AsyncIterable<T>,
  signal?: AbortSignal,
  onUnread?: (item: T, unread: Unread | undefined) => void,
): AsyncGenerator<{ item: T; hashes: NarHashes }> {
  await using window = new Window(items);
  await window.fill();
  if (window.isAll && !isWorthWorkers(window.items)) {
    for (const item of window.items) {
      signal?.throwIfAborted();
      let unread: Unread | undefined;
      const hashes = await readNar(item.path, item.contents, signal).catch((error: unknown) => {
        signal?.throwIfAborted();
        if (isNarswarmError(error, 'NIX_MISSING')) throw error;
        unread = { reason: (error as Error).message, code: systemCode((error as Error).cause) };
        return undefined;
      });
      if (hashes === undefined) onUnread?.(item, unread);
      else yield { item, hashes };
    }
    return;
  }
  window.sort();
  const workers = Array.from(
    { length: Math.min(availableParallelism(), window.items.length) },
    () => new ReadingThread(),
  );
  const inbox = new Inbox<{ worker: ReadingThread; item: T; reply: NarHashes | Unread | undefined }>();
  const abort = (): void => inbox.fail(signal?.reason as Error);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    let running = 0;
    const give = async (worker: ReadingThread): Promise<void> => {
      const item = await window.next();
      if (item === undefined) return;
      running++;
      worker.read(item.path, item.contents).then(
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
      if (reply === undefined || 'reason' in reply) onUnread?.(item, reply);
      else yield { item, hashes: reply };
    }
  } finally {
    signal?.removeEventListener('abort', abort);
    await Promise.all(workers.map((worker) => worker.close()));
  }
}

function isWorthWorkers(items: readonly HashItem[]): boolean {
  let [bytes, contentsBytes] = [0, 0];
  for (const { sizeBytes, contents } of items) {
    bytes += sizeBytes;
    if (contents !== undefined && !isNarItself(contents)) contentsBytes += sizeBytes;
  }
  return bytes >= WORTH_A_WORKER_BYTES || contentsBytes >= WORTH_A_WORKER_CONTENTS_BYTES;
}

/**
 * The answers of the workers, in order of arrival. (Promise.race with a promise that lives as long as the signal would
 * keep every answer in memory.)
 */
class Inbox<T> {
  readonly #items: T[] = [];
  #failure: Error | undefined;
  #wake = (): void => undefined;

  put(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  /** Ends the inbox. Waiting readers get the error at once, even while a large file is being read. */
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

/** The next files of a list, sorted by size. The list may be long. */
class Window<T extends { readonly sizeBytes: number }> implements AsyncDisposable {
  readonly #source: Iterator<T> | AsyncIterator<T>;
  /** The known files in order of arrival; once sorted, the largest is last. */
  items: T[] = [];
  #isSorted = false;
  #isAll = false;
  constructor(items: Iterable<T> | AsyncIterable<T>) {
    this.#source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  }

  /** True if no more files will come. */
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

  /** Sorts the known files, so that the largest one is next. */
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
