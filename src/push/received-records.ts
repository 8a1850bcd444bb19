import type { StoreHash } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { NarInfoSource } from '../fetch/sources/narinfo-sources.ts';
import type { NearSources } from '../fetch/sources/near-sources.ts';

/** The records that a push has sent, as a source of narinfos: with their torrents, as those of a hash map. */
export class ReceivedRecords implements NearSources {
  readonly upstreams: readonly [] = [];
  readonly sources: readonly NarInfoSource[];
  readonly awaited: NarInfoSource;
  readonly #records = new Map<StoreHash, NarInfo>();

  constructor() {
    this.awaited = {
      name: 'the pushing machine',
      peek: (hash) => this.#records.get(hash) ?? 'absent',
      find: async (hash) => this.#records.get(hash),
    };
    this.sources = [this.awaited];
  }

  /** @returns the records, in the order of their texts. @throws NARINFO_INVALID */
  add(texts: readonly string[]): NarInfo[] {
    const infos = texts.map((text) => parseNarInfo(text));
    for (const info of infos) this.#records.set(storeHashOf(info.storePath), info);
    return infos;
  }
}
