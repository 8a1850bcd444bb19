import { stat } from 'node:fs/promises';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf, storePathFromBaseName } from '../../nix/store-path.ts';
import { NARINFO_NAME, type FileStore } from '../file-store.ts';
import { namesIn } from '../../disk/names-in.ts';
import { isInQuarantine, quarantineFolder } from '../quarantine.ts';
import type { Fault } from './fault.ts';

/** A narinfo that should be in the store and is missing. */
export interface LostNarInfo {
  readonly storeHash: StoreHash;
  /** Undefined if only the hash is known. */
  readonly storePath: StorePath | undefined;
  readonly fault: Fault;
}

/** The fault of a file that an earlier run quarantined, or that the catalogue lists. */
export const WAS_HERE: Fault = { kind: 'gone' };

/**
 * Finds missing narinfos: those in quarantine, and those that others refer to. Reports each once, so it
 * remembers each path referred to.
 */
export class LostNarInfos {
  readonly #store: FileStore;
  readonly #looked = new Set<StoreHash>();

  constructor(store: FileStore) {
    this.#store = store;
  }

  /** Records that a narinfo was found, whatever its state. It is no longer reported. */
  note(storeHash: StoreHash): void {
    this.#isNew(storeHash);
  }

  /** Yields the missing references of a narinfo. A collector removes referring paths first: that is not a loss. */
  async *referredToBy({ storePath, references }: NarInfo): AsyncGenerator<LostNarInfo> {
    for (const name of references) {
      const storeHash = parseStoreHash(name.slice(0, 32));
      if (!this.#isNew(storeHash) || (await this.#has(storeHash))) continue;
      if (!(await this.#has(storeHashOf(storePath)))) continue;
      const fault: Fault = (await isInQuarantine(this.#store, this.#store.narInfoPath(storeHash)))
        ? WAS_HERE
        : { kind: 'lost-reference', referrer: storePath };
      yield { storeHash, storePath: storePathFromBaseName(name, this.#store.storeDir), fault };
    }
  }

  /** Yields those that were quarantined and have not come back. */
  async *quarantined(): AsyncGenerator<LostNarInfo> {
    for await (const name of namesIn(quarantineFolder(this.#store))) {
      const found = NARINFO_NAME.exec(name)?.[1];
      if (found === undefined) continue;
      const storeHash = parseStoreHash(found);
      if (!this.#isNew(storeHash) || (await this.#has(storeHash))) continue;
      yield { storeHash, storePath: undefined, fault: WAS_HERE };
    }
  }

  #isNew(storeHash: StoreHash): boolean {
    const { size } = this.#looked;
    return this.#looked.add(storeHash).size > size;
  }

  async #has(storeHash: StoreHash): Promise<boolean> {
    return stat(this.#store.narInfoPath(storeHash)).then(
      () => true,
      () => false,
    );
  }
}
