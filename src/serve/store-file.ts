import { closeSync, fstatSync, type Stats } from 'node:fs';
import { openToRead, readFully, type SmallReader } from '../disk/read-small.ts';
import type { FilePrefix } from '../exchange/messages/messages.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';

/**
 * A NAR of the store, open for one range. Opened and closed synchronously, since the system does that from memory. Its
 * bytes may have to come from the disk: they are read in another thread, or by a reader that finds out.
 */
export class StoreFile implements OfferedFile {
  readonly prefix: FilePrefix;
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #mtimeMs: number;
  readonly #reader: SmallReader | undefined;

  private constructor(prefix: FilePrefix, { size, mtimeMs }: Stats, fd: number, reader?: SmallReader) {
    this.prefix = prefix;
    this.sizeBytes = size;
    this.#fd = fd;
    this.#mtimeMs = mtimeMs;
    this.#reader = reader;
  }

  /**
   * Opens a file.
   *
   * @param mtimeMs time of the last change in whole milliseconds, if it is known
   * @param reader reads the bytes. Default: another thread
   * @returns undefined if the file has changed
   * @throws the system's error
   */
  static open(
    path: string,
    file: { readonly prefix: FilePrefix; readonly sizeBytes: number; readonly mtimeMs?: number },
    reader?: SmallReader,
  ): StoreFile | undefined {
    const fd = openToRead(path);
    const stats = fstatSync(fd);
    if (stats.size === file.sizeBytes && (file.mtimeMs ?? Math.floor(stats.mtimeMs)) === Math.floor(stats.mtimeMs))
      return new StoreFile(file.prefix, stats, fd, reader);
    closeSync(fd);
    return undefined;
  }

  /** @throws RangeError if the file is shorter, or has changed since it was opened */
  async read(target: Uint8Array, offset: number): Promise<void> {
    const bytesRead = await (this.#reader?.fill(this.#fd, target, offset) ?? readFully(this.#fd, target, offset));
    if (bytesRead < target.length) throw new RangeError('the file is shorter than it was');
    if (fstatSync(this.#fd).mtimeMs !== this.#mtimeMs) throw new RangeError('the file has changed');
  }

  [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#fd);
    return Promise.resolve();
  }
}
