import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { decodeRootList, isLive, mayHold, type RootShard } from './shard-list.ts';
import type { ShardFiles } from '../files/shard-files.ts';
import type { ShardRecords } from '../files/shard-records.ts';
import type { FileEntry } from './shard.ts';

/** The records of a named root, in shards of their own. Whoever wants the root reads no others. */
export class RootIndex {
  readonly #list: FileEntry;
  readonly #files: ShardFiles;
  #shards: readonly RootShard[] | undefined;

  /** @param list the list of its shards */
  constructor(list: FileEntry, files: ShardFiles) {
    this.#list = list;
    this.#files = files;
  }

  /** Finds a record of the root's closure. Undefined if there is none. @throws as `ShardFiles.records` does */
  async find(hash: StoreHash): Promise<NarInfo | undefined> {
    this.#shards ??= await this.#files.list(this.#list, decodeRootList);
    for (const shard of this.#shards) {
      if (!mayHold(shard, hash)) continue;
      const record = recordIn(shard, await this.#files.records(shard), hash);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** Returns a record without waiting. `absent`: the root has none. Undefined: a file must be read first. */
  peek(hash: StoreHash): NarInfo | 'absent' | undefined {
    let isKnown = this.#shards !== undefined;
    for (const shard of this.#shards ?? []) {
      if (!mayHold(shard, hash)) continue;
      const records = this.#files.atHand(shard);
      const record = records && recordIn(shard, records, hash);
      if (record !== undefined) return record;
      isKnown &&= records !== undefined;
    }
    return isKnown ? 'absent' : undefined;
  }
}

function recordIn(shard: RootShard, records: ShardRecords, hash: StoreHash): NarInfo | undefined {
  const place = records.indexOf(hash);
  return place !== undefined && isLive(shard, place) ? records.get(hash) : undefined;
}
