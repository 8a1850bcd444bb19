import { isNarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';

/** Counts the narinfos of a store that name each NAR file. Reads each of them once. */
export class NarUsers {
  readonly #store: FileStore;
  readonly #known = new Map<StoreHash, string>();
  readonly #users = new Map<string, number>();
  #hasDamaged = false;

  constructor(store: FileStore) {
    this.#store = store;
  }

  /** Reads the narinfos that were added since the last time, and those of these paths again. @throws STORE_UNWRITABLE */
  async refresh(changed: readonly NarInfo[]): Promise<void> {
    for (const { storePath } of changed) this.#forget(storeHashOf(storePath));
    for (const hash of await this.#store.listStoreHashes()) {
      if (this.#known.has(hash)) continue;
      const info = await this.#store.readNarInfo(hash).catch((error: unknown) => {
        if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
        this.#hasDamaged = true;
        return undefined;
      });
      const url = info?.url ?? '';
      this.#known.set(hash, url);
      this.#users.set(url, (this.#users.get(url) ?? 0) + 1);
    }
  }

  /** Returns true if a narinfo names a file, or may name it: a damaged one may be repaired. */
  has(url: string): boolean {
    return this.#hasDamaged || (this.#users.get(url) ?? 0) > 0;
  }

  #forget(hash: StoreHash): void {
    const url = this.#known.get(hash);
    if (url === undefined) return;
    this.#known.delete(hash);
    this.#users.set(url, (this.#users.get(url) ?? 1) - 1);
  }
}
