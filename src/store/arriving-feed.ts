import { createHash } from 'node:crypto';
import { constants, closeSync, openSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { Socket } from 'node:net';
import type { FileHash } from '../nix/brands.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { PartialNar } from './partial.ts';

/** Bytes of one write: four times what a pipe holds. */
const CHUNK_BYTES = 256 * 1024;

/**
 * Writes a NAR file into a FIFO while it arrives, from its front on. It reads the partial file through a descriptor of
 * its own, so the download never waits for it. It keeps the last bytes until the whole file is known to be right: a
 * reader never gets the end of a wrong one.
 */
export class ArrivingFeed implements AsyncDisposable {
  readonly #partial: PartialNar;
  readonly #path: string;
  readonly #fifo: Socket;
  readonly #sha256 = createHash('sha256');
  readonly #gone: Promise<void>;
  #file: FileHandle | undefined;
  #readBytes = 0;
  /** The last bytes that were read. They are not written yet. */
  #kept: Buffer = Buffer.alloc(0);
  #buffers: readonly [Buffer, Buffer] | undefined;
  #running: Promise<void> | undefined;
  #hasFailed = false;

  /**
   * Opens the FIFO for reading, too: so its reader may come later, or open it twice.
   *
   * @param partial larger than what a pipe holds
   * @throws the system's error
   */
  constructor(partial: PartialNar, fifo: string) {
    this.#partial = partial;
    this.#path = fifo;
    const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      this.#fifo = new Socket({ fd, readable: false, writable: true });
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gone = promise;
    this.#fifo.once('close', () => resolve());
    this.#fifo.on('error', () => (this.#hasFailed = true));
  }

  /** Writes what has arrived, but for the last bytes. Never fails: {@link finish} does. */
  async run(): Promise<void> {
    this.#running ??= this.#writeArrived()
      .catch(() => void (this.#hasFailed = true))
      .finally(() => (this.#running = undefined));
    await this.#running;
  }

  /**
   * Writes the rest of the complete file, and closes everything. If that fails, does as {@link abandon}.
   *
   * @returns true if the reader got the bytes of `fileHash`
   */
  async finish(fileHash: FileHash): Promise<boolean> {
    while (!this.#hasFailed && this.#readBytes < this.#partial.sizeBytes) await this.run();
    await this.#running;
    const isRight = !this.#hasFailed && fileHashOf(this.#sha256.digest()) === fileHash;
    const isDone = isRight && (await this.#write(this.#kept));
    await (isDone ? this[Symbol.asyncDispose]() : this.abandon());
    return isDone;
  }

  /**
   * Removes the FIFO, and closes it. A Nix that has waited for the lock of the path, and opens it only now, finds none. It
   * would wait for a writer for ever, and keep the lock: that of a daemon does not notice that its client has gone.
   */
  async abandon(): Promise<void> {
    if (!this.#fifo.destroyed) await rm(this.#path, { force: true });
    await this[Symbol.asyncDispose]();
  }

  /** Closes the FIFO. Its reader has not got the whole file, unless it was finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasFailed = true;
    this.#fifo.destroy();
    await this.#gone;
    await this.#running;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #writeArrived(): Promise<void> {
    this.#file ??= await open(this.#partial.path);
    while (!this.#hasFailed && this.#partial.frontBytes !== this.#readBytes) {
      const length = Math.min(CHUNK_BYTES, this.#partial.frontBytes - this.#readBytes);
      this.#buffers ??= [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
      const [buffer, other] = this.#buffers;
      // Negative: wrong bytes were dropped.
      const { bytesRead } = length > 0 ? await this.#file.read(buffer, 0, length, this.#readBytes) : { bytesRead: 0 };
      if (bytesRead === 0) throw new Error('bytes of it are gone');
      this.#sha256.update(buffer.subarray(0, bytesRead));
      this.#readBytes += bytesRead;
      if (!(await this.#write(this.#kept))) throw new Error('the FIFO is closed');
      this.#kept = buffer.subarray(0, bytesRead);
      this.#buffers = [other, buffer];
    }
  }

  /** @returns false if the FIFO is closed */
  async #write(bytes: Buffer): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#fifo.write(bytes, (error) => resolve(error === null || error === undefined));
    return Promise.race([promise, this.#gone.then(() => false)]);
  }
}
