import type { FileHash } from '../../nix/brands.ts';

/** Limit on large files that are begun at a time. Each has an open file. */
const MAX_BEGUN = 64;
/** The same limit including files that no member has any more. */
const MAX_BEGUN_IN_ALL = 512;

/** The large files of a download that are begun. Files that no member has any more keep few others from beginning. */
export class BegunFiles {
  readonly #begun = new Set<FileHash>();
  /** Those that no member had at the last look. */
  readonly #stranded = new Set<FileHash>();

  /** Returns true if a file is begun or may be. */
  mayAdd(file: FileHash): boolean {
    if (this.#begun.has(file)) return true;
    return this.#begun.size - this.#stranded.size < MAX_BEGUN && this.#begun.size < MAX_BEGUN_IN_ALL;
  }

  add(file: FileHash): void {
    this.#begun.add(file);
  }

  delete(file: FileHash): void {
    this.#begun.delete(file);
    this.#stranded.delete(file);
  }

  /** Determines again which files a member has. */
  look(isAtHand: (file: FileHash) => boolean): void {
    this.#stranded.clear();
    for (const file of this.#begun) if (!isAtHand(file)) this.#stranded.add(file);
  }
}
