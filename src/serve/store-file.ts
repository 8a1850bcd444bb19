import { closeSync, fstatSync } from 'node:fs';
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

  private constructor(prefix: FilePrefix, sizeBytes: number, fd: number) {
    this.prefix = prefix;
    this.sizeBytes = sizeBytes;
    this.#fd = fd;
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
    const { size, mtimeMs } = fstatSync(fd);
    if (size === file.sizeBytes && (file.mtimeMs ?? Math.floor(mtimeMs)) === Math.floor(mtimeMs))
      return new StoreFile(file.prefix, size, fd);
    closeSync(fd);
    return undefined;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    const bytesRead = await readFully(this.#fd, target, offset);
    if (bytesRead < target.length) throw new RangeError('the file is shorter than it was');
  }

  [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#fd);
    return Promise.resolve();
  }
}
