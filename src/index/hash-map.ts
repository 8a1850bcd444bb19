import { once } from 'node:events';
import { NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { ByteTurns } from './byte-turns.ts';
import type { IndexDir } from './index-dir.ts';
import { MAX_OPEN_TEXT_BYTES, MAX_RECORDS, MAX_SHARD_BYTES, MAX_SHARD_TEXT_BYTES } from './limits.ts';
import type { Manifest } from './manifest.ts';
import { ofPublisher } from './of-publisher.ts';
import { RECORD_KEYS } from './record.ts';
import type { ShardRecords } from './shard-records.ts';
import { assertShard, decodeShard, shardFileName, shardPrefix, type ListedShard, type ShardEntry } from './shard.ts';

/** A source of the files of a hash map. */
export interface IndexSource {
  /** Reads `manifest` or `shards/<prefix>.zst`. Refuses more than `maxBytes`. */
  readFile(name: string, options: { maxBytes: number; signal: AbortSignal; sha256?: string }): Promise<Uint8Array>;
}

const SHARD_TIMEOUT_MS = 10_000;
/** Time until a failed shard is requested again. A walk looks up many paths of one shard at once. */
const FAILURE_MS = 10_000;

export interface HashMapOptions {
  /** Ends all fetches, for all callers. Default: nothing does. */
  readonly lifetime?: AbortSignal;
  /** Milliseconds until a shard that nobody serves is given up. Default: 10,000. */
  readonly shardTimeoutMs?: number | undefined;
}

/**
 * A publisher's hash map with a verified manifest. Loads a shard when a look-up needs it, from the folder of earlier
 * runs or else from the source, and checks it against the manifest. Look-ups take at most {@link MAX_OPEN_TEXT_BYTES}
 * and one arriving shard of memory, whatever the size of the hash map.
 */
export class HashMap {
  readonly name: string;
  readonly manifest: Manifest;
  /** The signed bytes of the manifest. */
  readonly manifestBytes: Uint8Array;
  readonly #dir: IndexDir;
  readonly #source: IndexSource;
  readonly #entries: ReadonlyMap<string, ShardEntry>;
  readonly #options: HashMapOptions;
  /** Shards that are arriving, and shards that failed recently. */
  readonly #shards = new Map<string, { records: Promise<ShardRecords>; failedAtMs?: number }>();
  /** Loaded shards, least recently used first. */
  readonly #open = new Map<string, ShardRecords>();
  readonly #turns = new ByteTurns(MAX_SHARD_BYTES);
  #fetchedBytes: number;

  constructor(
    name: string,
    verified: { manifest: Manifest; bytes: Uint8Array; fetchedBytes: number },
    dir: IndexDir,
    source: IndexSource,
    options: HashMapOptions = {},
  ) {
    this.name = name;
    this.manifest = verified.manifest;
    this.manifestBytes = verified.bytes;
    this.#fetchedBytes = verified.fetchedBytes;
    this.#dir = dir;
    this.#source = source;
    this.#options = options;
    this.#entries = new Map(verified.manifest.shards.map((entry) => [entry.prefix, entry]));
  }

  /** Bytes of the manifest and of fetched shards, without those found in the folder. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  /**
   * Finds the record of a store path. Undefined if the hash map has none. The caller must check the narinfo's own
   * signature: a publisher vouches for torrents, not for the contents of the store.
   *
   * @throws INDEX_INVALID if a shard does not match the manifest; INDEX_UNREACHABLE if no source has it in time; errors
   *   of the source; the signal's reason
   */
  async find(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const atHand = this.peek(hash);
    if (atHand !== undefined) return atHand === 'absent' ? undefined : atHand;
    const entry = this.#entries.get(shardPrefix(hash, this.manifest.prefixLength));
    return entry && recordOf(hash, await unlessAborted(this.#records(entry), signal));
  }

  /**
   * Returns the record of a store path without waiting, as {@link find} does. `absent`: the hash map has none.
   * Undefined: its shard must be read first.
   *
   * @throws INDEX_INVALID if the record is malformed
   */
  peek(hash: StoreHash): NarInfo | 'absent' | undefined {
    const entry = this.#entries.get(shardPrefix(hash, this.manifest.prefixLength));
    if (entry === undefined) return 'absent';
    const open = this.#open.get(entry.prefix);
    if (open === undefined) return undefined;
    this.#keepOpen(entry.prefix, open);
    return recordOf(hash, open) ?? 'absent';
  }

  /**
   * Fetches every shard into the folder, so that this machine can host the whole hash map.
   *
   * @throws as {@link find} does
   */
  async fetchAll(signal: AbortSignal): Promise<void> {
    for (const entry of this.manifest.shards) await unlessAborted(this.#load(entry), signal);
  }

  /**
   * Yields the store hashes of all records, shard by shard.
   *
   * @throws as {@link find} does; INDEX_INVALID for more records than the manifest says, or than a hash map may have
   */
  async *storeHashes(signal: AbortSignal): AsyncGenerator<StoreHash> {
    const limit = Math.min(this.manifest.recordCount, MAX_RECORDS);
    let count = 0;
    for (const entry of this.manifest.shards) {
      const records = await unlessAborted(this.#records(entry), signal);
      count += records.size;
      if (count > limit)
        throw new NarswarmError('INDEX_INVALID', `the hash map ${this.name} has more than ${limit} records`, {
          facts: { publisher: this.name },
        });
      yield* records.keys();
    }
  }

  /** Fetches a shard once for all callers that need it at the same time. Continues if one of them aborts. */
  #records(entry: ShardEntry): Promise<ShardRecords> {
    const { prefix } = entry;
    const open = this.#open.get(prefix);
    if (open !== undefined) {
      this.#keepOpen(prefix, open);
      return Promise.resolve(open);
    }
    const known = this.#shards.get(prefix);
    const failedAgoMs = performance.now() - (known?.failedAtMs ?? Infinity); // -Infinity if it did not fail
    if (known !== undefined && failedAgoMs < FAILURE_MS) return known.records;
    const records = this.#turns.run(entry.sizeBytes, async () => {
      try {
        const decoded = decodeShard(await this.#load(entry), { maxBytes: MAX_SHARD_TEXT_BYTES, prefix });
        this.#keepOpen(prefix, decoded);
        return decoded;
      } catch (error) {
        throw ofPublisher(error, this.name);
      }
    });
    const shard: { records: typeof records; failedAtMs?: number } = { records };
    this.#shards.set(prefix, shard);
    records.then(
      () => this.#shards.delete(prefix),
      () => (shard.failedAtMs = performance.now()),
    );
    return records;
  }

  /** Keeps a shard in memory. Drops the least recently used shards if they take too much memory. */
  #keepOpen(prefix: string, records: ShardRecords): void {
    this.#open.delete(prefix);
    this.#open.set(prefix, records);
    let bytes = 0;
    for (const { textBytes } of this.#open.values()) bytes += textBytes;
    for (const [oldest, { textBytes }] of this.#open) {
      if (bytes <= MAX_OPEN_TEXT_BYTES || oldest === prefix) return;
      this.#open.delete(oldest);
      bytes -= textBytes;
    }
  }

  async #load(entry: ShardEntry): Promise<ListedShard> {
    const kept = await this.#dir.readShard(entry.prefix);
    if (kept !== undefined && fits(entry, kept)) return kept;
    const bytes = await this.#fetch(entry);
    try {
      assertShard(entry, bytes);
    } catch (error) {
      throw ofPublisher(error, this.name);
    }
    this.#fetchedBytes += bytes.length;
    await this.#dir.writeShard(entry.prefix, bytes);
    return bytes;
  }

  async #fetch(entry: ShardEntry): Promise<Uint8Array> {
    const { lifetime, shardTimeoutMs = SHARD_TIMEOUT_MS } = this.#options;
    const deadline = AbortSignal.timeout(shardTimeoutMs);
    const signal = lifetime === undefined ? deadline : AbortSignal.any([lifetime, deadline]);
    const file = shardFileName(entry.prefix);
    try {
      return await this.#source.readFile(file, { maxBytes: entry.sizeBytes, signal, sha256: entry.sha256 });
    } catch (cause) {
      if (!deadline.aborted || lifetime?.aborted === true) throw cause;
      throw new NarswarmError(
        'INDEX_UNREACHABLE',
        `nobody sent ${file} of the hash map ${this.name} within ${shardTimeoutMs / 1000} s`,
        { cause, facts: { publisher: this.name, file } },
      );
    }
  }
}

function recordOf(hash: StoreHash, records: ShardRecords): NarInfo | undefined {
  const info = records.get(hash);
  // Drops unknown lines: a stranger must not fill the store with them.
  return info && { ...info, extra: info.extra.filter(([key]) => RECORD_KEYS.has(key)) };
}

/** Waits for work until the signal aborts; the work itself continues. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  const stop = new AbortController();
  try {
    const aborted = once(signal, 'abort', { signal: stop.signal });
    aborted.catch(() => undefined);
    return await Promise.race([work, aborted.then(() => Promise.reject(signal.reason as Error))]);
  } finally {
    stop.abort();
  }
}

function fits(entry: ShardEntry, bytes: Uint8Array): bytes is ListedShard {
  try {
    assertShard(entry, bytes);
    return true;
  } catch {
    return false; // it belongs to another edition
  }
}
