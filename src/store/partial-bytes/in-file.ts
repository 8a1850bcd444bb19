import { open, rename, type FileHandle } from 'node:fs/promises';
import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import { fileHashOf } from '../../nix/hash.ts';
import type { HashThread, Sha256 } from '../../bytes/hash-thread.ts';
import { storeError, systemCode, inStore } from '../../disk/store-error.ts';
import type { PartialBytes } from './bytes.ts';

/** The bytes of a large NAR. They are in a file from the first byte on, where the next run finds them. */
export class BytesInFile implements PartialBytes {
  readonly #path: string;
  readonly #sizeBytes: number;
  readonly #thread: HashThread;
  #file: FileHandle | undefined;
  /** Hash of the first `#hashedBytes`. */
  #sha256: Sha256 | undefined;
  #hashedBytes = 0;
  /** Work of the thread on the file, which must stay open meanwhile. */
  readonly #inThread = new Set<Promise<unknown>>();

  private constructor(path: string, sizeBytes: number, thread: HashThread, file: FileHandle) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#thread = thread;
    this.#file = file;
  }

  /** Opens the file at `path`, or makes it. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(path: string, sizeBytes: number, thread: HashThread): Promise<BytesInFile> {
    return new BytesInFile(path, sizeBytes, thread, await openOrCreate(path));
  }

  /** Returns the bytes in the file, at most as many as the NAR has. */
  async foundBytes(): Promise<number> {
    const { size } = await this.#open().stat();
    return Math.min(size, this.#sizeBytes);
  }

  writePiece(offset: number, bytes: Uint8Array): Promise<void> {
    return this.write(offset, [bytes], bytes.length);
  }

  /**
   * Writes chunks. Hashes bytes that come in order at once, while they are in the processor's cache; {@link check}
   * reads the rest again.
   */
  async write(offset: number, chunks: readonly Uint8Array[], length: number): Promise<void> {
    if (offset < this.#hashedBytes) this.#restartHash(); // a peer replaces bytes that came by HTTP
    const place = { descriptor: this.#open().fd, offset };
    if (offset !== this.#hashedBytes) {
      const written = this.#thread.write(place, chunks);
      await (written === undefined ? this.#writeFile(offset, chunks, length) : this.#track(written));
      return;
    }
    const sha256 = (this.#sha256 ??= this.#thread.newSha256());
    this.#hashedBytes += length;
    if (sha256.writes) await this.#track(sha256.update(chunks, place));
    else await Promise.all([sha256.update(chunks), this.#writeFile(offset, chunks, length)]);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.#open().read(bytes, 0, length, offset);
    return bytes.subarray(0, bytesRead);
  }

  lend(offset: number, length: number): Promise<Uint8Array> {
    return this.read(offset, length);
  }

  async check(): Promise<FileHash> {
    const sha256 = (this.#sha256 ??= this.#thread.newSha256());
    const restBytes = this.#sizeBytes - this.#hashedBytes;
    if (restBytes > 0) {
      const place = { descriptor: this.#open().fd, offset: this.#hashedBytes };
      const bytes = await this.#track(sha256.read(place, restBytes));
      if (bytes < restBytes)
        throw new NarswarmError('STORE_UNWRITABLE', `${this.#path} was cut short by somebody else`);
      this.#hashedBytes = this.#sizeBytes;
    }
    const digest = await sha256.digest();
    this.#restartHash(); // nothing can be added after a digest
    return fileHashOf(Buffer.from(digest, 'hex'));
  }

  async cut(lengthBytes: number): Promise<void> {
    if (this.#hashedBytes > lengthBytes) this.#restartHash();
    await inStore(cutTo(this.#open(), lengthBytes), this.#path);
  }

  async finish(target: string): Promise<void> {
    try {
      await cutTo(this.#open(), this.#sizeBytes);
      await this.close();
      await rename(this.#path, target);
    } catch (error) {
      throw storeError(error, target);
    }
  }

  async toFile(): Promise<string> {
    await this.cut(this.#sizeBytes);
    return this.#path;
  }

  moveTo(target: string): Promise<void> {
    return this.finish(target);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#sha256?.forget();
    await Promise.allSettled(this.#inThread);
    await file?.close();
  }

  #open(): FileHandle {
    if (this.#file === undefined) throw new NarswarmError('STORE_UNWRITABLE', `${this.#path} was closed`);
    return this.#file;
  }

  async #writeFile(offset: number, chunks: readonly Uint8Array[], length: number): Promise<void> {
    try {
      const { bytesWritten } = await this.#open().writev(chunks, offset);
      if (bytesWritten < length) await this.#writeRest(offset, Buffer.concat(chunks), bytesWritten);
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  /** Writes the rest after a partial write: a full disk may take a part before it refuses the rest. */
  async #writeRest(offset: number, bytes: Uint8Array, written: number): Promise<void> {
    for (let done = written; done < bytes.length;) {
      const { bytesWritten } = await this.#open().write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  async #track<T>(work: void | Promise<T>): Promise<T> {
    const working = Promise.resolve(work as Promise<T>);
    this.#inThread.add(working);
    try {
      return await working;
    } catch (error) {
      throw storeError(error, this.#path);
    } finally {
      this.#inThread.delete(working);
    }
  }

  #restartHash(): void {
    this.#sha256?.forget();
    this.#sha256 = undefined;
    this.#hashedBytes = 0;
  }
}

/** Cuts a file. Checks the size first, which costs less than cutting. */
async function cutTo(file: FileHandle, sizeBytes: number): Promise<void> {
  if ((await file.stat()).size !== sizeBytes) await file.truncate(sizeBytes);
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return await inStore(open(path, 'w+'), path);
    throw storeError(error, path);
  }
}
