import { open, rename, writeFile } from 'node:fs/promises';
import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import { fileHashOf, sha256Bytes } from '../../nix/hash.ts';
import { placeIfRight } from '../../bytes/hash-thread.ts';
import { giveBack, lend, takeBuffer } from '../../bytes/lent-buffers.ts';
import { storeError } from '../../disk/store-error.ts';
import type { PartialBytes } from './bytes.ts';

/**
 * A small NAR on its way: one file is written, once, when it is known to be good. One that is closed before leaves what
 * it has in its partial file.
 */
export class BytesInMemory implements PartialBytes {
  readonly #path: string;
  readonly #sizeBytes: number;
  readonly #fileHash: FileHash;
  /** Partial files that lie on the disk: {@link close} adds its own. */
  readonly #leftovers: Set<string>;
  /** Allocated when the first bytes come, so that a NAR that waits costs nothing. */
  #memory: Uint8Array | undefined;
  #isClosed = false;

  /** @param path what the file is called until it is renamed to its target */
  constructor(path: string, sizeBytes: number, fileHash: FileHash, leftovers: Set<string>) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#fileHash = fileHash;
    this.#leftovers = leftovers;
  }

  /** Reads what lies in the partial file, which stays. @returns bytes read; 0 where it cannot be read */
  async takeOver(): Promise<number> {
    try {
      await using file = await open(this.#path, 'r');
      return (await file.read(this.#begin(), 0, this.#sizeBytes, 0)).bytesRead;
    } catch {
      return 0;
    }
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

  async toFile(): Promise<string> {
    this.#leftovers.add(this.#path);
    await writeFile(this.#path, this.#bytes()).catch((error: unknown) => Promise.reject(storeError(error, this.#path)));
    return this.#path;
  }

  async moveTo(target: string): Promise<void> {
    await rename(this.#path, target).catch((error: unknown) => Promise.reject(storeError(error, target)));
    this.finish();
  }

  /** The buffer is not given back: a slice of it may be on its way still. */
  async close(heldBytes: number): Promise<void> {
    const memory = this.#memory;
    this.#memory = undefined;
    this.#isClosed = true;
    if (memory === undefined || heldBytes === 0) return;
    this.#leftovers.add(this.#path);
    await writeFile(this.#path, memory.subarray(0, heldBytes)).catch(() => undefined); // it is fetched again, then
  }

  #copy(offset: number, bytes: Uint8Array): void {
    (this.#memory ?? this.#begin()).set(bytes, offset);
  }

  #begin(): Uint8Array {
    if (this.#isClosed) throw new NarswarmError('STORE_UNWRITABLE', `${this.#path} was closed`);
    return (this.#memory = takeBuffer(this.#sizeBytes).subarray(0, this.#sizeBytes));
  }

  #bytes(): Uint8Array {
    if (this.#memory === undefined) throw new NarswarmError('STORE_UNWRITABLE', `${this.#path} was closed`);
    return this.#memory;
  }
}
