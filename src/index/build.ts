/** Builds a hash map: divides the records into shards and signs the manifest that lists them. */
import { NarswarmError } from '../errors.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeDirOf, storeHashOf } from '../nix/store-path.ts';
import { signManifest } from './manifest.ts';
import type { Manifest } from './manifest.ts';
import type { PublisherKey } from './publisher-key.ts';
import { torrentOfRecord } from './record.ts';
import { encodeShard, prefixLengthFor, shardEntryOf, shardPrefix, type ListedShard } from './shard.ts';

/** The publisher's part of a hash map. The rest of the manifest follows from the records. */
export interface IndexParts extends Omit<Manifest, 'recordCount' | 'prefixLength' | 'shards'> {
  /** Narinfos with the added fields of `record.ts`, in any order, one per store path. */
  readonly records: readonly NarInfo[];
  readonly key: PublisherKey;
}

/** A hash map, ready to be written to disk or put into a torrent. */
export interface Index {
  readonly manifest: Uint8Array;
  /** Compressed shards by prefix, in order. `shardFileName` returns their file names. */
  readonly shards: ReadonlyMap<string, ListedShard>;
}

/**
 * Builds a hash map. The same parts give the same bytes, and unchanged records give the same shards, so followers fetch
 * only the changes (with the same version of zstd; see `encodeShard`).
 *
 * @throws NarswarmError `INDEX_INVALID` for a record outside the store directory, a record that does not fit its
 *   torrent, two records of one path, or a manifest that could not be read back; `ADDRESS_INVALID` for the salt.
 */
export function buildIndex(parts: IndexParts): Index {
  const { records, key, ...decided } = parts;
  for (const record of records) {
    if (storeDirOf(record.storePath) !== parts.storeDir) {
      throw new NarswarmError('INDEX_INVALID', `${record.storePath} is not in the store directory ${parts.storeDir}`);
    }
    torrentOfRecord(record);
  }

  const prefixLength = prefixLengthFor(records.length);
  const groups = Map.groupBy(records, (record) => shardPrefix(storeHashOf(record.storePath), prefixLength));
  const prefixes = [...groups.keys()].toSorted();
  const shards = new Map(prefixes.map((prefix) => [prefix, encodeShard(groups.get(prefix) ?? [])]));
  const entries = Array.from(shards, ([prefix, bytes]) => shardEntryOf(prefix, bytes));
  const manifest = signManifest({ ...decided, recordCount: records.length, prefixLength, shards: entries }, key);
  return { manifest, shards };
}
