import { NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { editionFiles } from './files/edition-files.ts';
import type { IndexDir } from './files/index-dir.ts';
import { MAX_RECORDS } from './format/limits.ts';
import type { ListedRoot, Manifest } from './manifest.ts';
import { RECORD_KEYS } from './record.ts';
import { RootIndex } from './format/root-index.ts';
import { ShardFiles, type IndexSource, type ShardFilesOptions } from './files/shard-files.ts';
import { decodePrefixList } from './format/shard-list.ts';
import type { ShardRecords } from './files/shard-records.ts';
import { unlessAborted } from '../within.ts';
import { shardPrefix, type ListedShard, type ShardEntry } from './format/shard.ts';

export type { IndexSource } from './files/shard-files.ts';

export interface HashMapOptions extends ShardFilesOptions {
  /**
   * True to look into the shards of every named root first, as far as they can be read. Default: only of roots that were
   * looked up themselves.
   */
  readonly searchesAllRoots?: boolean;
  /** URL of its HTTP mirror, if its address names one. */
  readonly mirror?: string | undefined;
}

/**
 * A publisher's hash map with a verified manifest. Loads a file when a look-up needs it ({@link ShardFiles}). Look-ups
 * take bounded memory, whatever the size of the hash map.
 *
 * Once a named root was looked up, its closure is expected next: its own shards are searched first. So a walk of it reads
 * no shard of anything else.
 */
export class HashMap {
  readonly name: string;
  /** URL of its HTTP mirror, if its address names one. */
  readonly mirror: string | undefined;
  readonly manifest: Manifest;
  /** The signed bytes of the manifest. */
  readonly manifestBytes: Uint8Array;
  readonly #files: ShardFiles;
  /** The shards, or lists of them, that the manifest names by prefix. */
  readonly #entries: ReadonlyMap<string, ShardEntry>;
  /** Lists of shards that were read, by their prefix: the shards by theirs. */
  readonly #lists = new Map<string, ReadonlyMap<string, ShardEntry>>();
  readonly #roots: ReadonlyMap<string, RootIndex>;
  readonly #rootsByHash: ReadonlyMap<StoreHash, readonly ListedRoot[]>;
  /** The roots whose shards are searched first. */
  readonly #searched: Set<RootIndex>;
  readonly #manifestFetchedBytes: number;

  constructor(
    name: string,
    verified: { manifest: Manifest; bytes: Uint8Array; fetchedBytes: number },
    dir: Pick<IndexDir, 'readShard' | 'writeShard'>,
    source: IndexSource,
    options: HashMapOptions = {},
  ) {
    this.name = name;
    this.mirror = options.mirror;
    this.manifest = verified.manifest;
    this.manifestBytes = verified.bytes;
    this.#manifestFetchedBytes = verified.fetchedBytes;
    this.#files = new ShardFiles(name, dir, source, options);
    this.#entries = byPrefix(verified.manifest.shards);
    const roots = verified.manifest.roots.flatMap(({ name: root, list }) =>
      list === undefined ? [] : [[root, new RootIndex(list, this.#files)] as const],
    );
    this.#roots = new Map(roots);
    this.#rootsByHash = Map.groupBy(verified.manifest.roots, ({ path }) => storeHashOf(path));
    this.#searched = new Set(options.searchesAllRoots === true ? this.#roots.values() : []);
  }

  /** Bytes of the manifest and of fetched files, without those found in the folder. */
  get fetchedBytes(): number {
    return this.#manifestFetchedBytes + this.#files.fetchedBytes;
  }

  /**
   * Finds the record of a store path. Undefined if the hash map has none. The caller must check the narinfo's own
   * signature: a publisher vouches for torrents, not for the contents of the store.
   *
   * @throws INDEX_INVALID if a shard does not match the manifest; INDEX_UNREACHABLE if no source has it in time; errors
   *   of the source; the signal's reason
   */
  async find(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    for (const { name } of this.#rootsByHash.get(hash) ?? []) {
      const root = this.#roots.get(name);
      if (root !== undefined) this.#searched.add(root);
    }
    const atHand = this.peek(hash);
    if (atHand !== undefined) return atHand === 'absent' ? undefined : atHand;
    return withoutUnknownLines(await unlessAborted(this.#find(hash), signal));
  }

  /**
   * Returns the record of a store path without waiting, as {@link find} does. `absent`: the hash map has none.
   * Undefined: a file must be read first.
   *
   * @throws INDEX_INVALID if the record is malformed
   */
  peek(hash: StoreHash): NarInfo | 'absent' | undefined {
    for (const root of this.#searched) {
      const found = root.peek(hash);
      if (found !== 'absent') return found && withoutUnknownLines(found);
    }
    const prefix = shardPrefix(hash, this.manifest.prefixLength);
    const listed = this.#entries.get(prefix.slice(0, 1));
    if (listed === undefined) return 'absent';
    const entry = prefix.length > 1 ? this.#lists.get(listed.prefix)?.get(prefix) : listed;
    const hasNone = entry === undefined && this.#lists.has(listed.prefix);
    if (entry === undefined) return hasNone ? 'absent' : undefined;
    const records = this.#files.atHand(entry);
    const place = records?.indexOf(hash);
    if (records === undefined || place === undefined) return records && 'absent';
    const root = records.rootAt(place);
    const found = root === undefined ? records.get(hash) : this.#roots.get(root)?.peek(hash);
    return found === undefined || found === 'absent' ? found : withoutUnknownLines(found);
  }

  /**
   * Fetches every file into the folder, so that this machine can host the whole hash map.
   *
   * @throws as {@link find} does
   */
  async fetchAll(signal: AbortSignal): Promise<void> {
    const load = (entry: Parameters<ShardFiles['load']>[0]): Promise<ListedShard> =>
      unlessAborted(this.#files.load(entry), signal);
    for await (const entry of editionFiles(this.manifest, load)) await load(entry);
  }

  /**
   * Yields the store hashes of all records, shard by shard.
   *
   * @throws as {@link find} does; INDEX_INVALID for more records than the manifest says, or than a hash map may have
   */
  async *storeHashes(signal: AbortSignal): AsyncGenerator<StoreHash> {
    const limit = Math.min(this.manifest.recordCount, MAX_RECORDS);
    let count = 0;
    for (const listed of this.manifest.shards) {
      const entries = await unlessAborted(this.#shardsOf(listed), signal);
      for (const entry of entries.values()) {
        const records = await unlessAborted(this.#files.records(entry), signal);
        count += records.size;
        if (count > limit)
          throw new NarswarmError('INDEX_INVALID', `the hash map ${this.name} has more than ${limit} records`, {
            facts: { publisher: this.name },
          });
        yield* records.keys();
      }
    }
  }

  async #find(hash: StoreHash): Promise<NarInfo | undefined> {
    for (const root of this.#searched) {
      // If its shards cannot be read, those of the prefixes decide, and say why.
      const found = await root.find(hash).catch(() => undefined);
      if (found !== undefined) return found;
    }
    const records = await this.#prefixShard(hash);
    const place = records?.indexOf(hash);
    if (records === undefined || place === undefined) return undefined;
    const root = records.rootAt(place);
    return root === undefined ? records.get(hash) : this.#roots.get(root)?.find(hash);
  }

  async #prefixShard(hash: StoreHash): Promise<ShardRecords | undefined> {
    const prefix = shardPrefix(hash, this.manifest.prefixLength);
    const listed = this.#entries.get(prefix.slice(0, 1));
    const entry = listed && (await this.#shardsOf(listed)).get(prefix);
    return entry && this.#files.records(entry);
  }

  /** Returns the shards below an entry of the manifest, by their prefixes. */
  async #shardsOf(listed: ShardEntry): Promise<ReadonlyMap<string, ShardEntry>> {
    const { prefixLength } = this.manifest;
    if (prefixLength <= 1) return byPrefix([listed]);
    const known = this.#lists.get(listed.prefix);
    if (known !== undefined) return known;
    const list = byPrefix(await this.#files.list(listed, (bytes) => decodePrefixList(bytes, listed, prefixLength)));
    this.#lists.set(listed.prefix, list);
    return list;
  }
}

function byPrefix(entries: readonly ShardEntry[]): ReadonlyMap<string, ShardEntry> {
  return new Map(entries.map((entry) => [entry.prefix, entry]));
}

/** Drops unknown lines: a stranger must not fill the store with them. */
function withoutUnknownLines<Info extends NarInfo | undefined>(info: Info): Info {
  return info && { ...info, extra: info.extra.filter(([key]) => RECORD_KEYS.has(key)) };
}
