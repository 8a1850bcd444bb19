import { isNarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';

/** The NAR files of a store that a narinfo names. */
export class NarUsers {
  readonly #urls = new Set<string>();
  #hasDamaged = false;

  private constructor() {}

  /** Reads all narinfos. @throws STORE_UNWRITABLE */
  static async read(store: FileStore): Promise<NarUsers> {
    const users = new NarUsers();
    for (const hash of await store.listStoreHashes()) {
      const info = await store.readNarInfo(hash).catch((error: unknown) => {
        if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
        users.#hasDamaged = true;
        return undefined;
      });
      if (info !== undefined) users.#urls.add(info.url);
    }
    return users;
  }

  /** Returns true if a narinfo names a file, or may name it: a damaged one may be repaired. */
  has(url: string): boolean {
    return this.#hasDamaged || this.#urls.has(url);
  }
}
