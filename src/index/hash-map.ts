import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { Index } from './build.ts';
import type { IndexDir } from './index-dir.ts';
import type { Manifest } from './manifest.ts';
import { assertShard, decodeShard, shardFileName, shardPrefix, type ShardEntry } from './shard.ts';

/** Where the files of an index can be had from. */
export interface IndexSource {
  /** `manifest` or `shards/<prefix>.zst`; refuses more than `maxBytes`. */
  readFile(name: string, options: { maxBytes: number; signal: AbortSignal }): Promise<Uint8Array>;
}

/** A shard of 128 records has about 100 kB; one that unpacks to more than this is an attack. */
const MAX_SHARD_TEXT_BYTES = 256 * 1024 * 1024;

/**
 * A publisher's hash map whose manifest was verified. Shards come when a lookup needs them: from the folder that keeps
 * what came before, else from the source; each is held against the manifest.
 */
export class HashMap {
  readonly name: string;
  readonly manifest: Manifest;
  readonly #manifestBytes: Uint8Array;
  readonly #dir: IndexDir;
  readonly #source: IndexSource;
  readonly #entries: ReadonlyMap<string, ShardEntry>;
  readonly #shards = new Map<string, Promise<Map<StoreHash, NarInfo>>>();
  #fetchedBytes: number;

  constructor(
    name: string,
    verified: { manifest: Manifest; bytes: Uint8Array; fetchedBytes: number },
    dir: IndexDir,
    source: IndexSource,
  ) {
    this.name = name;
    this.manifest = verified.manifest;
    this.#manifestBytes = verified.bytes;
    this.#fetchedBytes = verified.fetchedBytes;
    this.#dir = dir;
    this.#source = source;
    this.#entries = new Map(verified.manifest.shards.map((entry) => [entry.prefix, entry]));
  }

  /** Bytes of the manifest and of the shards that were fetched, not those found in the folder. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  /**
   * The record of a store path, or undefined where the map has none. The narinfo's own signature is the caller's to
   * check: a publisher vouches for torrents, not for what Nix may import.
   *
   * @throws INDEX_INVALID where a shard is not what the manifest says; what the source throws
   */
  async find(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const entry = this.#entries.get(shardPrefix(hash, this.manifest.prefixLength));
    if (entry === undefined) return undefined;
    let shard = this.#shards.get(entry.prefix);
    if (shard === undefined) {
      shard = this.#load(entry, signal).then((bytes) => decodeShard(bytes, { maxBytes: MAX_SHARD_TEXT_BYTES }));
      this.#shards.set(entry.prefix, shard);
      shard.catch(() => this.#shards.delete(entry.prefix)); // the next lookup may be luckier
    }
    return (await shard).get(hash);
  }

  /** Fetches every shard, so that this machine can host the whole map. */
  async whole(signal: AbortSignal): Promise<Index> {
    const shards = new Map<string, Uint8Array>();
    for (const entry of this.manifest.shards) shards.set(entry.prefix, await this.#load(entry, signal));
    return { manifest: this.#manifestBytes, shards };
  }

  async #load(entry: ShardEntry, signal: AbortSignal): Promise<Uint8Array> {
    const kept = await this.#dir.readShard(entry.prefix);
    if (kept !== undefined && fits(entry, kept)) return kept;
    const bytes = await this.#source.readFile(shardFileName(entry.prefix), { maxBytes: entry.sizeBytes, signal });
    assertShard(entry, bytes);
    this.#fetchedBytes += bytes.length;
    await this.#dir.writeShard(entry.prefix, bytes);
    return bytes;
  }
}

function fits(entry: ShardEntry, bytes: Uint8Array): boolean {
  try {
    assertShard(entry, bytes);
    return true;
  } catch {
    return false; // of another generation
  }
}
