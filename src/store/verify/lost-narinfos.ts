import { stat } from 'node:fs/promises';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf, storePathFromBaseName } from '../../nix/store-path.ts';
import { NARINFO_NAME, type FileStore } from '../file-store.ts';
import { KeyTable } from '../key-table.ts';
import { namesIn } from '../../disk/names-in.ts';
import { isInQuarantine, quarantineFolder } from '../quarantine.ts';

/** A narinfo that should be in the store and is not. */
export interface LostNarInfo {
  readonly storeHash: StoreHash;
  /** Undefined where nothing says more than the hash. */
  readonly storePath: StorePath | undefined;
  readonly reason: string;
}

/** Why something is missed that an earlier run has quarantined, or the catalogue lists. */
export const WAS_HERE = 'it was here, and is not any more';

/**
 * Finds narinfos that are missing: those in quarantine, and those that others refer to. Each is told once; some 40 bytes
 * are remembered of a path that is referred to.
 */
export class LostNarInfos {
  readonly #store: FileStore;
  readonly #looked = new KeyTable();

  constructor(store: FileStore) {
    this.#store = store;
  }

  /** Tells that a narinfo was found, in whatever state: it is not told of any more. */
  note(storeHash: StoreHash): void {
    this.#isNew(storeHash);
  }

  /** Those that a narinfo refers to. A collector removes what refers to a path before the path: that is no loss. */
  async *referredToBy({ storePath, references }: NarInfo): AsyncGenerator<LostNarInfo> {
    for (const name of references) {
      const storeHash = parseStoreHash(name.slice(0, 32));
      if (!this.#isNew(storeHash) || (await this.#has(storeHash))) continue;
      if (!(await this.#has(storeHashOf(storePath)))) continue;
      const reason = (await isInQuarantine(this.#store, this.#store.narInfoPath(storeHash)))
        ? WAS_HERE
        : `${storePath} refers to it, and it is not there`;
      yield { storeHash, storePath: storePathFromBaseName(name, this.#store.storeDir), reason };
    }
  }

  /** Those that were put into quarantine and have not come back. */
  async *quarantined(): AsyncGenerator<LostNarInfo> {
    for await (const name of namesIn(quarantineFolder(this.#store))) {
      const found = NARINFO_NAME.exec(name)?.[1];
      if (found === undefined) continue;
      const storeHash = parseStoreHash(found);
      if (!this.#isNew(storeHash) || (await this.#has(storeHash))) continue;
      yield { storeHash, storePath: undefined, reason: WAS_HERE };
    }
  }

  #isNew(storeHash: StoreHash): boolean {
    const { size } = this.#looked;
    return this.#looked.intern(Buffer.from(storeHash, 'latin1')) === size;
  }

  async #has(storeHash: StoreHash): Promise<boolean> {
    return stat(this.#store.narInfoPath(storeHash)).then(
      () => true,
      () => false,
    );
  }
}
