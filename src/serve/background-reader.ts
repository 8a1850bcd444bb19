import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import type { NarContents, NarHashes } from '../store/hashing/hash-nar.ts';
import type { Unread } from '../store/hashing/hash-pool.ts';
import { ReadingThread } from '../store/decoding/reading-thread.ts';

/** `at once`: a peer waits for it, and it is small. `now`: a peer waits for it. `later`: nothing waits for it. */
export type Urgency = 'at once' | 'now' | 'later';

/**
 * Nice values of the reading threads for each urgency, in the order in which they are used; all others have the last one. Nice
 * 19 gets a 70th of what a normal program gets, nice 10 a tenth: beside ten programs, a peer waits in vain for either.
 * So one thread is as any program of this machine. Nice 5 gets a third, so a large file in another thread ends, too.
 */
const NICE: Readonly<Record<Urgency, readonly number[]>> = { 'at once': [0], now: [0, 5], later: [19] };

/** Size up to which a NAR that a peer waits for is read at once: that takes a few milliseconds. */
const SMALL_BYTES = 1024 * 1024;

/** Returns how urgent a file is that a peer waits for. @param narSize bytes of its contents */
export function awaited(sizeBytes: number, narSize: number): Urgency {
  return Math.max(sizeBytes, narSize) <= SMALL_BYTES ? 'at once' : 'now';
}

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

/** Threads of one urgency. */
class NiceReader {
  readonly #nice: readonly number[];
  readonly #queue = new PQueue({ concurrency: availableParallelism() });
  readonly #idle: ReadingThread[] = [];
  /** All threads, with their nice values. */
  readonly #threads = new Map<ReadingThread, number>();
  #wanted = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param nice nice values of the threads; all after the last one have that */
  constructor(nice: readonly number[]) {
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
    const thread = this.#takeIdle() ?? this.#start();
    try {
      return await thread.read(path, contents);
    } finally {
      if (thread.hasEnded) this.#threads.delete(thread);
      else if (this.#threads.has(thread)) this.#idle.push(thread);
    }
  }

  /** Takes the idle thread that gets the most processor time. */
  #takeIdle(): ReadingThread | undefined {
    this.#idle.sort((a, b) => (this.#threads.get(b) ?? 0) - (this.#threads.get(a) ?? 0));
    return this.#idle.pop();
  }

  #start(): ReadingThread {
    const taken = new Set(this.#threads.values());
    const nice = this.#nice.find((one) => !taken.has(one)) ?? this.#nice.at(-1) ?? 0;
    const thread = new ReadingThread({ nice });
    this.#threads.set(thread, nice);
    return thread;
  }

  async #endThreads(): Promise<void> {
    const threads = [...this.#threads.keys()];
    this.#threads.clear();
    this.#idle.length = 0;
    await Promise.all(threads.map((thread) => thread.close()));
  }
}
