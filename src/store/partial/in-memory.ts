import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import { fileHashOf, sha256Bytes } from '../../nix/hash.ts';
import { placeIfRight } from '../../torrent/hash-thread.ts';
import { giveBack, lend, takeBuffer } from '../../torrent/lent-buffers.ts';
import { storeError } from '../store-error.ts';
import type { PartialBytes } from './bytes.ts';

/** A small NAR on its way: one file is written, once, when it is known to be good. */
export class BytesInMemory implements PartialBytes {
  readonly #path: string;
  readonly #sizeBytes: number;
  readonly #fileHash: FileHash;
  /** Allocated when the first bytes come, so that a NAR that waits costs nothing. */
  #memory: Uint8Array | undefined;

  /** @param path what the file is called until it is renamed to its target */
  constructor(path: string, sizeBytes: number, fileHash: FileHash) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#fileHash = fileHash;
  }

  writePiece(offset: number, bytes: Uint8Array): void {
    if (bytes.length === this.#sizeBytes) this.#memory = bytes;
    else this.#copy(offset, bytes);
  }

  write(offset: number, chunks: readonly Uint8Array[]): void {
    let at = offset;
    for (const chunk of chunks) {
      this.#copy(at, chunk);
      at += chunk.length;
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return this.#bytes().subarray(offset, offset + length);
  }

  lend(offset: number, length: number): Promise<Uint8Array> {
    if (this.#memory !== undefined) lend(this.#memory);
    return this.read(offset, length);
  }

  async check(target: string): Promise<FileHash> {
    const sha256 = Buffer.from(sha256Bytes(this.#fileHash)).toString('hex');
    const place = { path: this.#path, target, sha256 };
    const digest = await placeIfRight(this.#bytes(), place).catch((error: unknown) => {
      throw storeError(error, target);
    });
    return digest === sha256 ? this.#fileHash : fileHashOf(Buffer.from(digest, 'hex'));
  }

  finish(): void {
    giveBack(this.#bytes());
    this.#memory = undefined;
  }

  async close(): Promise<void> {
    // nothing is open
  }

  #copy(offset: number, bytes: Uint8Array): void {
    this.#memory ??= takeBuffer(this.#sizeBytes).subarray(0, this.#sizeBytes);
    this.#memory.set(bytes, offset);
  }

  #bytes(): Uint8Array {
    if (this.#memory === undefined) throw new NarswarmError('STORE_UNWRITABLE', `${this.#path} was closed`);
    return this.#memory;
  }
}
