import { isNarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { HashMap } from '../hash-map.ts';
import { MAX_SHARD_TEXT_BYTES } from '../format/limits.ts';
import type { IndexDir } from '../files/index-dir.ts';
import type { Manifest } from '../manifest.ts';
import { NOT_HERE } from '../files/not-here.ts';
import { decodePrefixList, decodeRootList, isLive, type RootShard } from '../format/shard-list.ts';
import type { ShardRecords } from '../files/shard-records.ts';
import { assertShard, decodeShard, type FileEntry, type ListedShard, type ShardEntry } from '../format/shard.ts';

/** A shard of named roots in the last edition. */
export interface LastRootShard {
  readonly shard: RootShard;
  /** True for the places of records that counted for some root. */
  readonly counted: (place: number) => boolean;
}

/** The edition before the one that is built, in the publisher's folder. Its files are read when they are needed. */
export class LastEdition {
  readonly manifest: Manifest;
  readonly #dir: Pick<IndexDir, 'readShard' | 'writeShard'>;
  readonly #isNeeded: boolean;
  readonly #map: HashMap;

  /** @param options.isNeeded true if nothing can be built without it. Otherwise damaged files count as absent */
  constructor(
    manifest: Manifest,
    dir: Pick<IndexDir, 'readShard' | 'writeShard'>,
    options: { readonly isNeeded: boolean },
  ) {
    this.manifest = manifest;
    this.#dir = dir;
    this.#isNeeded = options.isNeeded;
    const verified = { manifest, bytes: new Uint8Array(), fetchedBytes: 0 };
    this.#map = new HashMap('the last edition', verified, dir, NOT_HERE);
  }

  /** Finds a record. @throws INDEX_INVALID, INDEX_UNREACHABLE if its shard is damaged or absent */
  find(hash: StoreHash): Promise<NarInfo | undefined> {
    return this.#map.find(hash, new AbortController().signal);
  }

  /**
   * Returns the shards that are named by prefixes, in order.
   *
   * @throws INDEX_INVALID for a damaged file of an edition that is needed
   */
  async prefixShards(): Promise<readonly ShardEntry[]> {
    const { shards, prefixLength } = this.manifest;
    if (prefixLength <= 1) return shards;
    const all: ShardEntry[] = [];
    for (const list of shards)
      all.push(...((await this.#read(list, (bytes) => decodePrefixList(bytes, list, prefixLength))) ?? []));
    return all;
  }

  /** Returns the shards of named roots, each once. @throws as {@link prefixShards} */
  async rootShards(): Promise<LastRootShard[]> {
    const listed: RootShard[] = [];
    for (const { list } of this.manifest.roots)
      if (list !== undefined) listed.push(...((await this.#read(list, decodeRootList)) ?? []));
    const byHash = Map.groupBy(listed, ({ sha256 }) => sha256);
    return Array.from(byHash.values(), (same) => ({
      shard: same[0]!,
      counted: (place) => same.some((shard) => isLive(shard, place)),
    }));
  }

  /** Returns the records of a shard. @throws as {@link prefixShards} */
  records(entry: FileEntry): Promise<ShardRecords | undefined> {
    return this.#read(entry, (bytes) => decodeShard(bytes, { maxBytes: MAX_SHARD_TEXT_BYTES }));
  }

  async #read<Contents>(entry: FileEntry, decode: (bytes: ListedShard) => Contents): Promise<Contents | undefined> {
    const bytes = (await this.#dir.readShard(entry)) ?? new Uint8Array();
    try {
      assertShard(entry, bytes);
      return decode(bytes);
    } catch (error) {
      if (!this.#isNeeded && isNarswarmError(error, 'INDEX_INVALID')) return undefined;
      throw error;
    }
  }
}
