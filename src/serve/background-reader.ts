import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import type { NarContents, NarHashes } from '../store/hash-nar.ts';
import type { Unread } from '../store/hash-pool.ts';
import { ReadingThread } from '../store/reading-thread.ts';

/** `now`: somebody waits for it. `later`: it is read when nobody waits. */
export type Urgency = 'now' | 'later';

/** Time after which an unused thread, of about 10 MB, is ended. */
const IDLE_MS = 10_000;

/**
 * Reads and decompresses NAR files with processor time that nobody else wants (nice 19). Uses at most one thread per
 * processor. Reads files that somebody waits for first.
 */
export class BackgroundReader implements AsyncDisposable {
  readonly #queue = new PQueue({ concurrency: availableParallelism() });
  readonly #idle: ReadingThread[] = [];
  readonly #threads = new Set<ReadingThread>();
  #wanted = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /**
   * Reads a file as `readNar` does.
   *
   * @returns undefined if the file does not exist; the reason if it could not be read
   * @throws NIX_MISSING if the program that decompresses it is missing; an error after {@link close}
   */
  async read(
    path: string,
    contents: NarContents | undefined,
    urgency: Urgency,
  ): Promise<NarHashes | Unread | undefined> {
    clearTimeout(this.#timer);
    this.#wanted++;
    try {
      return await this.#queue.add(() => this.#readInThread(path, contents), { priority: urgency === 'now' ? 1 : 0 });
    } finally {
      this.#wanted--;
      if (this.#wanted === 0) this.#timer = setTimeout(() => void this.#endThreads(), IDLE_MS).unref();
    }
  }

  /** Closes the reader, and ends running reads. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#endThreads();
    clearTimeout(this.#timer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #readInThread(path: string, contents: NarContents | undefined): Promise<NarHashes | Unread | undefined> {
    if (this.#isClosed) throw new Error('the reader of NARs is closed');
    const thread = this.#idle.pop() ?? this.#start();
    try {
      return await thread.read(path, contents);
    } finally {
      if (thread.hasEnded) this.#threads.delete(thread);
      else if (this.#threads.has(thread)) this.#idle.push(thread);
    }
  }

  #start(): ReadingThread {
    const thread = new ReadingThread({ isIdlePriority: true });
    this.#threads.add(thread);
    return thread;
  }

  async #endThreads(): Promise<void> {
    const threads = [...this.#threads];
    this.#threads.clear();
    this.#idle.length = 0;
    await Promise.all(threads.map((thread) => thread.close()));
  }
}
