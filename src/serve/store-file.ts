import { closeSync, fstatSync, type Stats } from 'node:fs';
import { openToRead, readFully } from '../disk/read-small.ts';
import type { FilePrefix } from '../exchange/messages.ts';
import type { OfferedFile } from '../exchange/offer.ts';

/**
 * A NAR of the store, open for one range. Opened and closed synchronously, since the system does that from memory. Its
 * bytes are read in another thread, since they may have to come from the disk.
 */
export class StoreFile implements OfferedFile {
  readonly prefix: FilePrefix;
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #mtimeMs: number;

  private constructor(prefix: FilePrefix, { size, mtimeMs }: Stats, fd: number) {
    this.prefix = prefix;
    this.sizeBytes = size;
    this.#fd = fd;
    this.#mtimeMs = mtimeMs;
  }

  /**
   * Opens a file.
   *
   * @param mtimeMs time of the last change in whole milliseconds, if it is known
   * @returns undefined if the file has changed
   * @throws the system's error
   */
  static open(
    path: string,
    file: { readonly prefix: FilePrefix; readonly sizeBytes: number; readonly mtimeMs?: number },
  ): StoreFile | undefined {
    const fd = openToRead(path);
    const stats = fstatSync(fd);
    if (stats.size === file.sizeBytes && (file.mtimeMs ?? Math.floor(stats.mtimeMs)) === Math.floor(stats.mtimeMs))
      return new StoreFile(file.prefix, stats, fd);
    closeSync(fd);
    return undefined;
  }

  /** @throws RangeError if the file is shorter, or has changed since it was opened */
  async read(target: Uint8Array, offset: number): Promise<void> {
    const bytesRead = await readFully(this.#fd, target, offset);
    if (bytesRead < target.length) throw new RangeError('the file is shorter than it was');
    if (fstatSync(this.#fd).mtimeMs !== this.#mtimeMs) throw new RangeError('the file has changed');
  }

  [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#fd);
    return Promise.resolve();
  }
}
