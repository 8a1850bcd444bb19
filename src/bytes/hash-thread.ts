import { createHash, hash, type Hash } from 'node:crypto';
import { read } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { Thread, workerBeside } from './thread.ts';

/** A place in an open file. */
export interface Place {
  readonly descriptor: number;
  readonly offset: number;
}

/** A question to the thread. The answer is a digest in lower-case hex, a number of bytes, or nothing. */
export type HashQuestion =
  | { readonly want: 'sha1' | 'sha256'; readonly bytes: Uint8Array }
  /** Returns the SHA-256. Writes a file with these bytes if it is `digest`. */
  | { readonly want: 'save'; readonly bytes: Uint8Array; readonly digest: string; readonly path: string }
  /** Adds bytes to a stream, and writes them to a place. */
  | {
      readonly want: 'update';
      readonly stream: number;
      readonly bytes: readonly Uint8Array[];
      readonly place: Place | undefined;
    }
  | { readonly want: 'write'; readonly bytes: readonly Uint8Array[]; readonly place: Place }
  /** Adds bytes of a file to a stream. Returns the number of bytes read. */
  | { readonly want: 'read'; readonly stream: number; readonly place: Place; readonly lengthBytes: number }
  /** Ends a stream, with or without its SHA-256. */
  | { readonly want: 'digest' | 'forget'; readonly stream: number };

/** Below this size, starting a thread (40 ms) takes longer than it saves. */
const WORTH_A_THREAD_BYTES = 128 * 1024 * 1024;
/** Bytes of a file that are read at a time without the thread. */
const READ_BYTES = 1 << 20;

/**
 * Hashes and writes: in a thread of its own once a large transfer is expected, until then and after the thread has ended
 * on the caller's thread.
 */
export class HashThread implements AsyncDisposable {
  #thread: Thread<HashQuestion, string> | undefined;
  #nextStream = 1;

  /** Starts the thread, if the transfer is large enough and there is a second processor. */
  startFor(expectedBytes: number): void {
    if (expectedBytes < WORTH_A_THREAD_BYTES || availableParallelism() === 1) return;
    this.#thread ??= new Thread(workerBeside(import.meta.url, 'hash-thread-worker'));
  }

  /** Returns the SHA-1 in lower-case hex. The bytes must not change meanwhile. */
  sha1(bytes: Uint8Array): string | Promise<string> {
    return this.#running()?.ask({ want: 'sha1', bytes }) ?? hash('sha1', bytes, 'hex');
  }

  /** Returns the SHA-256 in lower-case hex. The bytes must not change meanwhile. */
  sha256(bytes: Uint8Array): string | Promise<string> {
    return this.#running()?.ask({ want: 'sha256', bytes }) ?? hash('sha256', bytes, 'hex');
  }

  /**
   * Writes a file with these bytes if their SHA-256 is `digest`. The bytes must not change meanwhile.
   *
   * @returns the SHA-256 in lower-case hex; undefined without the thread: then nothing is hashed nor written
   * @throws the system's error, with its code
   */
  save(path: string, bytes: Uint8Array, digest: string): Promise<string> | undefined {
    return this.#running()?.ask({ want: 'save', bytes, digest, path });
  }

  /**
   * Writes adjacent chunks to a place. They must not change, nor the file be closed, until the promise is settled.
   *
   * @returns undefined without the thread: then nothing is written
   * @throws the system's error, with its code
   */
  write(place: Place, chunks: readonly Uint8Array[]): Promise<unknown> | undefined {
    return this.#running()?.ask({ want: 'write', bytes: chunks, place });
  }

  /** Begins a SHA-256 over chunks. */
  newSha256(): Sha256 {
    const thread = this.#running();
    return thread === undefined ? new OwnSha256() : new ThreadSha256(thread, this.#nextStream++);
  }

  /** Ends the thread and its present work. */
  async [Symbol.asyncDispose](): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.close();
  }

  /** Returns the thread. Undefined if it has ended: then its work is done here. */
  #running(): Thread<HashQuestion, string> | undefined {
    if (this.#thread?.hasEnded === true) this.#thread = undefined;
    return this.#thread;
  }
}

/** A SHA-256 over chunks. */
export interface Sha256 {
  /** True if it also writes what it hashes. */
  readonly writes: boolean;
  /**
   * Adds bytes, and writes them to a place if it {@link writes}. They must not change until the returned promise has
   * resolved.
   *
   * @throws the system's error, with its code
   */
  update(chunks: readonly Uint8Array[], place?: Place): void | Promise<unknown>;
  /** Adds bytes of an open file, up to its end. @returns the number of bytes read */
  read(place: Place, lengthBytes: number): Promise<number>;
  /** Returns the digest in lower-case hex. Nothing can be added after it. */
  digest(): Promise<string>;
  /** Ends it without a digest. */
  forget(): void;
}

class OwnSha256 implements Sha256 {
  readonly writes = false;
  readonly #hash: Hash = createHash('sha256');

  update(chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) this.#hash.update(chunk);
  }

  async read({ descriptor, offset }: Place, lengthBytes: number): Promise<number> {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, lengthBytes));
    let done = 0;
    while (done < lengthBytes) {
      const wanted = Math.min(READ_BYTES, lengthBytes - done);
      const { bytesRead } = await promisify(read)(descriptor, buffer, 0, wanted, offset + done);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      done += bytesRead;
    }
    return done;
  }

  digest(): Promise<string> {
    return Promise.resolve(this.#hash.digest('hex'));
  }

  forget(): void {
    // the garbage collector takes it
  }
}

class ThreadSha256 implements Sha256 {
  readonly writes = true;
  readonly #thread: Thread<HashQuestion, string>;
  readonly #stream: number;
  #isOver = true;

  constructor(thread: Thread<HashQuestion, string>, stream: number) {
    this.#thread = thread;
    this.#stream = stream;
  }

  update(chunks: readonly Uint8Array[], place?: Place): Promise<unknown> {
    this.#isOver = false;
    return this.#thread.ask({ want: 'update', stream: this.#stream, bytes: chunks, place });
  }

  async read(place: Place, lengthBytes: number): Promise<number> {
    this.#isOver = false;
    return Number(await this.#thread.ask({ want: 'read', stream: this.#stream, place, lengthBytes }));
  }

  digest(): Promise<string> {
    this.#isOver = true;
    return this.#thread.ask({ want: 'digest', stream: this.#stream });
  }

  forget(): void {
    if (!this.#isOver) void this.#thread.ask({ want: 'forget', stream: this.#stream }).catch(() => undefined);
    this.#isOver = true;
  }
}
