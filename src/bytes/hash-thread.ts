import { createHash, hash, type Hash } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** What the thread is asked. Bytes in shared memory (lent-buffers.ts) are not copied. */
export interface HashTask {
  readonly id: number;
  readonly bytes: readonly Uint8Array[];
  /**
   * `sha1`: of these bytes. `update`: adds them to a stream. `digest`: the SHA-256 of a stream, which ends. `place`: the
   * SHA-256 of these bytes, which become a file if it is the right one.
   */
  readonly want: 'sha1' | 'update' | 'digest' | 'forget' | 'place';
  readonly stream: number;
  readonly place?: Place | undefined;
}

/** Where bytes go if their SHA-256 is the right one. */
export interface Place {
  /** Written first, then renamed to `target`. */
  readonly path: string;
  readonly target: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** What it answers, in the order in which it was asked. */
export type HashAnswer =
  /** Lower-case hex. */
  | { readonly id: number; readonly digest: string }
  /** What the system said: its words and its code, such as ENOSPC. */
  | { readonly id: number; readonly failure: { readonly message: string; readonly code: string | undefined } };

/** Below this the start of a thread (40 ms) costs more than it saves. */
const WORTH_A_THREAD_BYTES = 128 * 1024 * 1024;

let thread: HashThread | undefined;

/**
 * Starts the thread that hashes what a transfer of that size brings, where there is a processor for it. Without one,
 * everything here works all the same, on the thread of the caller.
 */
export function hashInThread(expectedBytes: number): void {
  if (expectedBytes >= WORTH_A_THREAD_BYTES && availableParallelism() > 1) thread ??= new HashThread();
}

/** SHA-1 in lower-case hex. The bytes must not change meanwhile. */
export function sha1(bytes: Uint8Array): string | Promise<string> {
  return thread === undefined ? hash('sha1', bytes, 'hex') : thread.ask('sha1', [bytes]);
}

/**
 * Makes bytes a file if their SHA-256 is the right one; else nothing is written.
 *
 * @returns the SHA-256 that they have, lower-case hex
 * @throws what the file system throws
 */
export async function placeIfRight(bytes: Uint8Array, place: Place): Promise<string> {
  if (thread !== undefined) return thread.ask('place', [bytes], { place });
  const found = hash('sha256', bytes, 'hex');
  if (found !== place.sha256) return found;
  // at once: four trips through the thread pool cost a small NAR more than its bytes; what is worth a thread comes this
  // way only where there is one processor
  writeFileSync(place.path, bytes);
  renameSync(place.path, place.target);
  return found;
}

/** A SHA-256 that is fed piece by piece. */
export interface Sha256 {
  /** Adds bytes; they must not change until what is returned has resolved. */
  update(chunks: readonly Uint8Array[]): void | Promise<void>;
  /** The digest, lower-case hex. Nothing can be added after it. */
  digest(): Promise<string>;
  /** Ends it without a digest. */
  forget(): void;
}

export function newSha256(): Sha256 {
  return thread === undefined ? new OwnSha256() : new ThreadSha256(thread);
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
    // the garbage collector's
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
    await this.#thread.ask('update', chunks, { stream: this.#stream });
  }

  digest(): Promise<string> {
    this.#isOver = true;
    return this.#thread.ask('digest', [], { stream: this.#stream });
  }

  forget(): void {
    if (!this.#isOver) void this.#thread.ask('forget', [], { stream: this.#stream }).catch(() => undefined);
    this.#isOver = true;
  }
}

class HashThread {
  /** It lies beside this file: .ts in a checkout, .js once built. */
  readonly #worker = new Worker(
    new URL(`./hash-thread-worker.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
  );
  readonly #waiting = new Map<number, PromiseWithResolvers<string>>();
  /** Why it has ended; nothing would ever be answered any more. */
  #failure: Error | undefined;
  #nextId = 1;
  #nextStream = 1;

  constructor() {
    this.#worker.unref(); // it lives as long as the process has other work
    this.#worker.on('message', (answer: HashAnswer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (this.#waiting.size === 0) this.#worker.unref();
      if ('digest' in answer) waiting?.resolve(answer.digest);
      else waiting?.reject(Object.assign(new Error(answer.failure.message), { code: answer.failure.code }));
    });
    const end = (error: Error): void => {
      this.#failure ??= error;
      thread = undefined;
      for (const { reject } of this.#waiting.values()) reject(this.#failure);
      this.#waiting.clear();
    };
    this.#worker.on('error', end);
    this.#worker.on('exit', () => end(new Error('the thread that hashes has ended')));
  }

  newStream(): number {
    return this.#nextStream++;
  }

  ask(
    want: HashTask['want'],
    bytes: readonly Uint8Array[],
    { stream = 0, place }: { stream?: number; place?: Place } = {},
  ): Promise<string> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<string>();
    if (this.#waiting.size === 0) this.#worker.ref();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage({ id, want, bytes, stream, place } satisfies HashTask);
    return waiting.promise;
  }
}
