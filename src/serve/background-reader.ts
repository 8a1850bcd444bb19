import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import type { NarContents, NarHashes } from '../store/hash-nar.ts';
import type { Unread } from '../store/hash-pool.ts';
import { ReadingThread } from '../store/reading-thread.ts';

/** `at once`: a peer waits for it, and it is small. `now`: a peer waits for it. `later`: nothing waits for it. */
export type Urgency = 'at once' | 'now' | 'later';

/**
 * Nice value of the threads for each urgency. On a busy machine, nice 19 leaves a 70th of a processor or less, and a
 * peer would wait in vain. Nice 10 leaves a tenth: a small file would still take seconds, for milliseconds of work.
 */
const NICE: Readonly<Record<Urgency, number>> = { 'at once': 0, now: 10, later: 19 };

/** Time after which an unused thread, of about 10 MB, is ended. */
const IDLE_MS = 10_000;

/**
 * Reads and decompresses NAR files in threads of low priority, at most one thread per processor and urgency. Files that
 * somebody waits for have their own threads, so they never wait for the others.
 */
export class BackgroundReader implements AsyncDisposable {
  readonly #readers: Readonly<Record<Urgency, NiceReader>> = {
    'at once': new NiceReader(NICE['at once']),
    now: new NiceReader(NICE.now),
    later: new NiceReader(NICE.later),
  };

  /**
   * Reads a file as `readNar` does.
   *
   * @returns undefined if the file does not exist; the reason if it could not be read
   * @throws NIX_MISSING if the program that decompresses it is missing; an error after {@link close}
   */
  read(path: string, contents: NarContents | undefined, urgency: Urgency): Promise<NarHashes | Unread | undefined> {
    return this.#readers[urgency].read(path, contents);
  }

  /** Closes the reader, and ends running reads. */
  async close(): Promise<void> {
    await Promise.all(Object.values(this.#readers).map((reader) => reader.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Threads of one priority. */
class NiceReader {
  readonly #nice: number;
  readonly #queue = new PQueue({ concurrency: availableParallelism() });
  readonly #idle: ReadingThread[] = [];
  readonly #threads = new Set<ReadingThread>();
  #wanted = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(nice: number) {
    this.#nice = nice;
  }

  /** Reads a file as soon as a thread is free. */
  async read(path: string, contents: NarContents | undefined): Promise<NarHashes | Unread | undefined> {
    clearTimeout(this.#timer);
    this.#wanted++;
    try {
      return await this.#queue.add(() => this.#readInThread(path, contents));
    } finally {
      this.#wanted--;
      if (this.#wanted === 0) this.#timer = setTimeout(() => void this.#endThreads(), IDLE_MS).unref();
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#endThreads();
    clearTimeout(this.#timer);
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
    const thread = new ReadingThread({ nice: this.#nice });
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
