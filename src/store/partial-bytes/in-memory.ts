import { renameSync, writeFile as writeFileCallback, writeFileSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import { decodeNix32 } from '../../nix/nix32.ts';
import { fileHashOf } from '../../nix/hash.ts';
import type { HashThread } from '../../bytes/hash-thread.ts';
import { copyInto, giveBack, lend, takeBuffer } from '../../bytes/lent-buffers.ts';
import { storeError, inStore } from '../../disk/store-error.ts';
import type { PartialBytes } from './bytes.ts';
import { moveFile } from '../../disk/replace.ts';

/** Up to this size, writing a file takes less time than passing it to another thread. */
const AT_ONCE_BYTES = 256 * 1024;

/** The form with callbacks takes half the time of the one with promises. */
const writeAside = promisify(writeFileCallback);

/**
 * The bytes of a small NAR, in memory. Writes one file, once, when the NAR is known to be good. If it is closed before
 * that, writes its bytes to its partial file.
 */
export class BytesInMemory implements PartialBytes {
  readonly #path: string;
  readonly #sizeBytes: number;
  /** Paths of existing partial files. {@link close} adds its own. */
  readonly #leftovers: Set<string>;
  readonly #thread: HashThread;
  /** Allocated with the first bytes, so that a waiting NAR costs nothing. */
  #memory: Uint8Array | undefined;
  /** True once the file at the path has all bytes. */
  #isSaved = false;
  #isClosed = false;

  /** @param path the file's path until it is renamed to its target */
  constructor(path: string, sizeBytes: number, leftovers: Set<string>, thread: HashThread) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#leftovers = leftovers;
    this.#thread = thread;
  }

  /** Reads the bytes of the partial file, and leaves the file in place. @returns bytes read; 0 if it cannot be read */
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

  /** The thread that hashes also writes the file, if the bytes are right. */
  async check(expected: FileHash): Promise<FileHash> {
    const bytes = this.#bytes();
    try {
      const wanted = Buffer.from(decodeNix32(expected)).toString('hex');
      const saved = await this.#thread.save(this.#path, bytes, wanted);
      this.#isSaved = saved === wanted;
      const found = saved ?? (await this.#thread.sha256(bytes));
      return found === wanted ? expected : fileHashOf(Buffer.from(found, 'hex'));
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  /** Writes a small file synchronously: another thread would take longer than the write itself. */
  async finish(target: string): Promise<void> {
    const bytes = this.#bytes();
    try {
      if (!this.#isSaved) {
        if (bytes.length <= AT_ONCE_BYTES) writeFileSync(this.#path, bytes);
        else await writeAside(this.#path, bytes);
      }
      renameSync(this.#path, target);
    } catch (error) {
      throw storeError(error, target);
    }
    this.#release(bytes);
  }

  cut(): void {
    // The file is written when it is closed.
  }

  async toFile(): Promise<string> {
    this.#leftovers.add(this.#path);
    await inStore(writeFile(this.#path, this.#bytes()), this.#path);
    return this.#path;
  }

  async moveTo(target: string): Promise<void> {
    await moveFile(this.#path, target);
    this.#release(this.#bytes());
  }

  /** Does not give the buffer back: a slice of it may still be in use. */
  async close(heldBytes: number): Promise<void> {
    const memory = this.#memory;
    this.#memory = undefined;
    this.#isClosed = true;
    if (memory === undefined || heldBytes === 0) return;
    this.#leftovers.add(this.#path);
    // If this fails, the bytes are fetched again.
    await writeFile(this.#path, memory.subarray(0, heldBytes)).catch(() => undefined);
  }

  #release(bytes: Uint8Array): void {
    giveBack(bytes);
    this.#memory = undefined;
  }

  #copy(offset: number, bytes: Uint8Array): void {
    copyInto(this.#memory ?? this.#begin(), bytes, offset);
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
