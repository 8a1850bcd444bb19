import { renameSync, writeFile as writeFileCallback, writeFileSync } from 'node:fs';
import { open, rename, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import { fileHashOf } from '../../nix/hash.ts';
import { sha256 } from '../../bytes/hash-thread.ts';
import { giveBack, lend, takeBuffer } from '../../bytes/lent-buffers.ts';
import { storeError } from '../../disk/store-error.ts';
import type { PartialBytes } from './bytes.ts';

/** Up to this size writing a file takes less time than having another thread do it. */
const AT_ONCE_BYTES = 32 * 1024;

/** The callback form: it takes half the time of the one with promises. */
const writeAside = promisify(writeFileCallback);

/**
 * A small NAR on its way: one file is written, once, when it is known to be good. One that is closed before leaves what
 * it has in its partial file.
 */
export class BytesInMemory implements PartialBytes {
  readonly #path: string;
  readonly #sizeBytes: number;
  /** Partial files that lie on the disk: {@link close} adds its own. */
  readonly #leftovers: Set<string>;
  /** Allocated when the first bytes come, so that a NAR that waits costs nothing. */
  #memory: Uint8Array | undefined;
  #isClosed = false;

  /** @param path what the file is called until it is renamed to its target */
  constructor(path: string, sizeBytes: number, leftovers: Set<string>) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
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

  async check(): Promise<FileHash> {
    const digest = await sha256(this.#bytes());
    return fileHashOf(Buffer.from(digest, 'hex'));
  }

  /** Small files are written at once: the trips through the thread pool would cost them more than their bytes. */
  async finish(target: string): Promise<void> {
    const bytes = this.#bytes();
    try {
      if (bytes.length <= AT_ONCE_BYTES) {
        writeFileSync(this.#path, bytes);
        renameSync(this.#path, target);
      } else {
        await writeAside(this.#path, bytes);
        await rename(this.#path, target);
      }
    } catch (error) {
      throw storeError(error, target);
    }
    this.#release(bytes);
  }

  async toFile(): Promise<string> {
    this.#leftovers.add(this.#path);
    await writeFile(this.#path, this.#bytes()).catch((error: unknown) => Promise.reject(storeError(error, this.#path)));
    return this.#path;
  }

  async moveTo(target: string): Promise<void> {
    await rename(this.#path, target).catch((error: unknown) => Promise.reject(storeError(error, target)));
    this.#release(this.#bytes());
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

  #release(bytes: Uint8Array): void {
    giveBack(bytes);
    this.#memory = undefined;
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
