import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import type { FileHash } from '../nix/brands.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { PartialNar } from './partial.ts';
import { XzStream } from './xz-stream.ts';

/** Bytes that are decoded in one turn: xz takes 15 ms for them. */
const TURN_BYTES = 512 * 1024;

/**
 * Decodes an xz file while it arrives, from its front on. It reads the partial file through a descriptor of its own, so
 * the download never waits for it. It hashes the bytes that it decodes, since bytes in the partial file may be
 * replaced.
 */
export class ArrivingDecoder implements AsyncDisposable {
  readonly #partial: PartialNar;
  readonly #to: string;
  readonly #maxBytes: number;
  readonly #sha256 = createHash('sha256');
  #doneBytes = 0;
  #file: FileHandle | undefined;
  #xz: XzStream | undefined;
  #buffer: Buffer | undefined;
  #turn: Promise<void> | undefined;
  #hasBegun = false;
  #hasFailed = false;

  /**
   * @param to the decoded file
   * @param maxBytes size of the decoded file. More is refused
   */
  constructor(partial: PartialNar, to: string, maxBytes: number) {
    this.#partial = partial;
    this.#to = to;
    this.#maxBytes = maxBytes;
  }

  /** True once a process decodes. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** True if bytes have arrived for another turn. */
  get hasWork(): boolean {
    return this.#turn === undefined && !this.#hasFailed && this.#partial.frontBytes !== this.#doneBytes;
  }

  /** Decodes some of the bytes that have arrived. Never fails: {@link finish} does. */
  async takeTurn(): Promise<void> {
    this.#hasBegun = true;
    this.#turn ??= this.#decodeSome()
      .catch(() => false)
      .then((isDone) => {
        if (!isDone) this.#hasFailed = true;
        this.#turn = undefined;
      });
    await this.#turn;
  }

  /**
   * Decodes the rest of the complete file, and closes everything.
   *
   * @returns true if the decoded file is complete, and comes from the bytes of `fileHash`
   */
  async finish(fileHash: FileHash): Promise<boolean> {
    await this.#turn;
    while (this.hasWork) await this.takeTurn();
    const isRight = !this.#hasFailed && fileHashOf(this.#sha256.digest()) === fileHash;
    const isDone = isRight && (await this.#xz?.end()) === true;
    await this[Symbol.asyncDispose]();
    return isDone;
  }

  /** Ends the process. Its output stays incomplete, unless it was finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasFailed = true;
    await this.#xz?.[Symbol.asyncDispose]();
    await this.#turn;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #decodeSome(): Promise<boolean> {
    const length = Math.min(TURN_BYTES, this.#partial.frontBytes - this.#doneBytes);
    if (length < 0) return false; // wrong bytes were dropped
    this.#file ??= await open(this.#partial.path);
    if (this.#xz === undefined) {
      await using to = await open(this.#to, 'w');
      if (this.#hasFailed) return false; // disposed of meanwhile
      this.#xz = new XzStream(to.fd, this.#maxBytes);
    }
    this.#buffer ??= Buffer.allocUnsafe(TURN_BYTES);
    const { bytesRead } = await this.#file.read(this.#buffer, 0, length, this.#doneBytes);
    const bytes = this.#buffer.subarray(0, bytesRead);
    this.#sha256.update(bytes);
    this.#doneBytes += bytesRead;
    return bytesRead > 0 && this.#xz.write(bytes);
  }
}
