/** Builds a hash map: divides the records into shards and signs the manifest that lists them. */
import { NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import { formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeDirOf, storeHashOf } from '../nix/store-path.ts';
import { buildPrefixShards } from './edition/build-prefixes.ts';
import { buildRoots, closuresOf } from './edition/build-roots.ts';
import type { IndexDir } from './files/index-dir.ts';
import { LastEdition } from './edition/last-edition.ts';
import { signManifest } from './manifest.ts';
import type { ListedRoot, Manifest, Root } from './manifest.ts';
import type { PublisherKey } from './publisher-key.ts';
import { torrentOfRecord } from './record.ts';
import { RecordTexts } from './edition/record-texts.ts';
import { prefixLengthFor, type FileEntry, type ShardEntry } from './format/shard.ts';

/** The records from which the shards of a hash map are made. */
export interface ShardParts {
  /** Narinfos with the added fields of `record.ts`, in any order, one per store path. */
  readonly records: Iterable<NarInfo>;
  readonly roots: readonly Root[];
  /** The directory of all store paths. */
  readonly storeDir: string;
  /**
   * Store hashes of the records that are gone, if `records` has only new and changed ones. All others stay. Undefined:
   * `records` has all records of the edition.
   */
  readonly removed?: ReadonlySet<StoreHash>;
}

/** The shards of an edition, whose files are in the folder. */
export interface BuiltShards {
  readonly roots: readonly ListedRoot[];
  readonly recordCount: number;
  readonly prefixLength: number;
  readonly shards: readonly ShardEntry[];
  /** All files besides the manifest. */
  readonly files: readonly FileEntry[];
}

/** The publisher's part of a hash map. The rest of the manifest follows from the records. */
export interface IndexParts
  extends Omit<ShardParts, 'removed'>, Omit<Manifest, 'recordCount' | 'prefixLength' | 'shards' | 'roots'> {
  readonly key: PublisherKey;
}

/** The folder of a publisher's hash map. */
export type BuildDir = Pick<IndexDir, 'readShard' | 'writeShard'>;

/**
 * Builds the shards of an edition on top of the last one. Writes the files that are not there yet. A shard whose records
 * are unchanged stays as it is: it is neither compressed nor hashed again. The same parts on top of their own edition
 * change nothing.
 *
 * The memory depends on `records` and on the named roots, not on the number of records that stay.
 *
 * @param last the manifest of the edition in the folder. Undefined: there is none. If the build is interrupted, the next
 *   one needs all records
 * @throws NarswarmError `INDEX_INVALID` for a record outside the store directory, a record that does not fit its torrent,
 *   two records of one path, or, with `removed`, a last edition that cannot be read; STORE_FULL, STORE_UNWRITABLE
 */
export async function buildShards(parts: ShardParts, last: Manifest | undefined, dir: BuildDir): Promise<BuiltShards> {
  const byHash = recordsByHash(parts);
  const { removed } = parts;
  // Of changes, it is not known yet how many records there will be: the next edition may have longer prefixes.
  const prefixLength = prefixLengthFor(
    removed === undefined ? byHash.size : Math.max(last?.recordCount ?? 0, byHash.size),
  );
  const before = last === undefined ? undefined : new LastEdition(last, dir, { isNeeded: removed !== undefined });
  const texts = new RecordTexts(byHash, removed, before);
  // If one shard has all records, a list of shards would not make it smaller.
  const roots = prefixLength === 0 ? [] : parts.roots;
  const membership = await closuresOf(roots, texts);
  const built = await buildRoots(roots, membership, texts, before, dir);
  const prefixes = await buildPrefixShards(
    { prefixLength, membership, roots, formerly: built.formerly },
    texts,
    before,
    dir,
  );
  return {
    roots: parts.roots.map((root, index) => {
      const list = built.lists[index];
      return list === undefined ? root : { ...root, list };
    }),
    recordCount: prefixes.recordCount,
    prefixLength,
    shards: prefixes.listed,
    files: [...built.files, ...prefixes.files],
  };
}

/**
 * Signs the manifest of an edition. The same parts and shards give the same bytes.
 *
 * @throws NarswarmError `INDEX_INVALID` for a manifest that could not be read back; `ADDRESS_INVALID` for the salt
 */
export function signIndex(parts: Omit<IndexParts, 'records' | 'roots'>, built: BuiltShards): Uint8Array {
  const { key, ...decided } = parts;
  const { roots, recordCount, prefixLength, shards } = built;
  return signManifest({ ...decided, roots, recordCount, prefixLength, shards }, key);
}

/** Returns the texts of the records, by their store hashes. A text takes a third of the memory of its record. */
function recordsByHash({ records, storeDir }: ShardParts): Map<StoreHash, Buffer> {
  const byHash = new Map<StoreHash, Buffer>();
  for (const record of records) {
    if (storeDirOf(record.storePath) !== storeDir)
      throw new NarswarmError('INDEX_INVALID', `${record.storePath} is not in the store directory ${storeDir}`);
    torrentOfRecord(record);
    const hash = storeHashOf(record.storePath);
    if (byHash.has(hash))
      throw new NarswarmError('INDEX_INVALID', `two records have the store hash of ${record.storePath}`);
    byHash.set(apart(hash), Buffer.from(formatNarInfo(record)));
  }
  return byHash;
}

/** Returns a store hash as a string of its own. A part of a string keeps the whole one in memory: here, a record's text. */
function apart(hash: StoreHash): StoreHash {
  return Buffer.from(hash).toString('latin1') as StoreHash;
}
