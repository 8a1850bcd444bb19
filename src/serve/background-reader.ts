import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import type { NarContents, NarHashes } from '../store/hash-nar.ts';
import type { Unread } from '../store/hash-pool.ts';
import { ReadingThread } from '../store/reading-thread.ts';

/** `now`: somebody waits for it. `later`: it has its turn when nobody waits. */
export type Urgency = 'now' | 'later';

/** A thread that nobody has used for so long is ended: it takes some 10 MB. */
const IDLE_MS = 10_000;

/**
 * Reads and decompresses NAR files with the processor time that nobody else wants (nice 19). One thread a processor at
 * most; what somebody waits for goes first.
 */
export class BackgroundReader implements AsyncDisposable {
  readonly #queue = new PQueue({ concurrency: availableParallelism() });
  readonly #idle: ReadingThread[] = [];
  readonly #threads = new Set<ReadingThread>();
  #wanted = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /**
   * Reads a file, as `readNar` does.
   *
   * @returns undefined if there is no such file, or no longer; why it could not be read
   * @throws NIX_MISSING without the program that decompresses it; an error once this is closed
   */
  async read(path: string, contents: NarContents, urgency: Urgency): Promise<NarHashes | Unread | undefined> {
    clearTimeout(this.#timer);
    this.#wanted++;
    try {
      return await this.#queue.add(() => this.#readInThread(path, contents), { priority: urgency === 'now' ? 1 : 0 });
    } finally {
      this.#wanted--;
      if (this.#wanted === 0) this.#timer = setTimeout(() => void this.#endThreads(), IDLE_MS).unref();
    }
  }

  /** Ends what is being read, too. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#endThreads();
    clearTimeout(this.#timer);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #readInThread(path: string, contents: NarContents): Promise<NarHashes | Unread | undefined> {
    if (this.#isClosed) throw new Error('no NAR is looked into any longer');
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
