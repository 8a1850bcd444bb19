import type { FileHash } from '../../nix/brands.ts';
import type { WantedFile } from '../member.ts';
import { prefixOf, type FilePrefix } from '../messages/messages.ts';

/** A wanted file, with its name in lists for members. */
export interface Wanted extends WantedFile {
  readonly prefix: FilePrefix;
}

/** The files that this process wants from its members. */
export class WantedFiles {
  readonly #byPrefix = new Map<FilePrefix, Wanted>();
  readonly #byFile = new Map<FileHash, Wanted>();

  get size(): number {
    return this.#byFile.size;
  }

  get(file: FileHash): Wanted | undefined {
    return this.#byFile.get(file);
  }

  byPrefix(prefix: FilePrefix): Wanted | undefined {
    return this.#byPrefix.get(prefix);
  }

  values(): IterableIterator<Wanted> {
    return this.#byFile.values();
  }

  /** Adds files. @returns those that were not wanted yet, or that more members may hear of now */
  add(files: Iterable<WantedFile>): Wanted[] {
    const news: Wanted[] = [];
    for (const { file, sizeBytes, isScoped } of files) {
      const known = this.#byFile.get(file);
      if (known !== undefined && (known.isScoped !== true || isScoped === true)) continue;
      const wanted = { file, sizeBytes, isScoped, prefix: prefixOf(file) };
      this.#byFile.set(file, wanted);
      this.#byPrefix.set(wanted.prefix, wanted);
      news.push(wanted);
    }
    return news;
  }

  /** Removes files. @returns those that were wanted */
  delete(files: Iterable<FileHash>): Wanted[] {
    const gone: Wanted[] = [];
    for (const file of files) {
      const wanted = this.#byFile.get(file);
      if (wanted === undefined) continue;
      this.#byFile.delete(file);
      if (this.#byPrefix.get(wanted.prefix) === wanted) this.#byPrefix.delete(wanted.prefix);
      gone.push(wanted);
    }
    return gone;
  }
}
