import { createHash, hash, type Hash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Thread, workerBeside } from './thread.ts';

/** A question to the thread. The answer is a digest in lower-case hex, or nothing. */
export interface HashQuestion {
  /**
   * `sha1`, `sha256`: hash these bytes. `update`: add them to a stream. `digest`: end a stream with its SHA-256.
   * `forget`: end a stream without one.
   */
  readonly want: 'sha1' | 'sha256' | 'update' | 'digest' | 'forget';
  readonly bytes: readonly Uint8Array[];
  readonly stream: number;
}

/** Below this size, starting a thread (40 ms) takes longer than it saves. */
const WORTH_A_THREAD_BYTES = 128 * 1024 * 1024;

let thread: HashThread | undefined;

/**
 * Starts the thread that hashes for a transfer of this size, if there is a processor for it. Without the thread,
 * everything here runs on the caller's thread.
 */
export function hashInThread(expectedBytes: number): void {
  if (expectedBytes >= WORTH_A_THREAD_BYTES && availableParallelism() > 1) thread ??= new HashThread();
}

/** Returns the thread. Undefined if it has ended: then its questions are answered here. */
function running(): HashThread | undefined {
  if (thread?.hasEnded === true) thread = undefined;
  return thread;
}

/** Returns the SHA-1 in lower-case hex. The bytes must not change meanwhile. */
export function sha1(bytes: Uint8Array): string | Promise<string> {
  return running()?.ask('sha1', [bytes]) ?? hash('sha1', bytes, 'hex');
}

/** Returns the SHA-256 in lower-case hex. The bytes must not change meanwhile. */
export function sha256(bytes: Uint8Array): string | Promise<string> {
  return running()?.ask('sha256', [bytes]) ?? hash('sha256', bytes, 'hex');
}

/** A SHA-256 over chunks. */
export interface Sha256 {
  /** Adds bytes. They must not change until the returned promise has resolved. */
  update(chunks: readonly Uint8Array[]): void | Promise<void>;
  /** Returns the digest in lower-case hex. Nothing can be added after it. */
  digest(): Promise<string>;
  /** Ends it without a digest. */
  forget(): void;
}

export function newSha256(): Sha256 {
  const owner = running();
  return owner === undefined ? new OwnSha256() : new ThreadSha256(owner);
}

class OwnSha256 implements Sha256 {
  readonly #hash: Hash = createHash('sha256');

  update(chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) this.#hash.update(chunk);
  }

  digest(): Promise<string> {
    return Promise.resolve(this.#hash.digest('hex'));
  }

  forget(): void {
    // left to the garbage collector
  }
}

class ThreadSha256 implements Sha256 {
  readonly #thread: HashThread;
  readonly #stream: number;
  #isOver = true;

  constructor(owner: HashThread) {
    this.#thread = owner;
    this.#stream = owner.newStream();
  }

  async update(chunks: readonly Uint8Array[]): Promise<void> {
    this.#isOver = false;
    await this.#thread.ask('update', chunks, this.#stream);
  }

  digest(): Promise<string> {
    this.#isOver = true;
    return this.#thread.ask('digest', [], this.#stream);
  }

  forget(): void {
    if (!this.#isOver) void this.#thread.ask('forget', [], this.#stream).catch(() => undefined);
    this.#isOver = true;
  }
}

class HashThread {
  readonly #thread = new Thread<HashQuestion, string>(workerBeside(import.meta.url, 'hash-thread-worker'));
  #nextStream = 1;

  get hasEnded(): boolean {
    return this.#thread.hasEnded;
  }

  newStream(): number {
    return this.#nextStream++;
  }

  ask(want: HashQuestion['want'], bytes: readonly Uint8Array[], stream = 0): Promise<string> {
    return this.#thread.ask({ want, bytes, stream });
  }
}
