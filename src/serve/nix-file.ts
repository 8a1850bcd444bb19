import { prefixOf, type FilePrefix } from '../exchange/messages/messages.ts';
import type { OfferedFile } from '../exchange/answers/offer.ts';
import type { CatalogueEntry } from '../store/catalogue/catalogue-entry.ts';
import type { NixNars } from '../store/in-nix/nix-nars.ts';
import type { TreeReader } from '../store/in-nix/tree-reader.ts';

/** A NAR that is read from the Nix store, open for one range. */
export class NixFile implements OfferedFile {
  readonly prefix: FilePrefix;
  readonly #entry: CatalogueEntry;
  readonly #reader: TreeReader;
  readonly #nars: NixNars;

  private constructor(entry: CatalogueEntry, reader: TreeReader, nars: NixNars) {
    this.prefix = prefixOf(entry.fileHash);
    this.#entry = entry;
    this.#reader = reader;
    this.#nars = nars;
  }

  /** Opens the NAR of an entry. Undefined if its path is no longer the one that was hashed. */
  static async open(entry: CatalogueEntry, nars: NixNars): Promise<NixFile | undefined> {
    const reader = await nars.reader(entry.storePath, entry.mtimeMs);
    return reader?.map.narSize === entry.sizeBytes ? new NixFile(entry, reader, nars) : undefined;
  }

  get sizeBytes(): number {
    return this.#entry.sizeBytes;
  }

  async read(target: Uint8Array, offset: number): Promise<void> {
    try {
      await this.#reader.read(target, offset);
      // A path that was collected and made again may have other files of the same sizes.
      if (this.#nars.changedAtMs(this.#entry.storePath) !== this.#entry.mtimeMs)
        throw new RangeError('the path has changed');
    } catch (error) {
      this.#nars.forget(this.#entry.storePath); // then the next request looks at all of it again
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
