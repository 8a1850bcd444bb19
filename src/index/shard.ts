/**
 * Shards: the records of a hash map, divided by the first characters of their store hashes and compressed. Looking up
 * ten paths fetches ten shards, not a hundred thousand records.
 */
import { createHash } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { encodeNix32 } from '../nix/nix32.ts';
import { MAX_SHARD_BYTES, MAX_SHARD_TEXT_BYTES } from './limits.ts';
import { formatRecords } from './record.ts';
import { ShardRecords } from './shard-records.ts';

/** A shard's line in the manifest. */
export interface ShardEntry {
  /** The first characters of its store hashes. Empty if one shard has all records. */
  readonly prefix: string;
  /** Bytes of the compressed shard; above 0. */
  readonly sizeBytes: number;
  /** SHA-256 of the compressed shard: 52 nix32 characters. */
  readonly sha256: string;
}

/** The longest prefix that a manifest may use: 32,768 shards. */
export const MAX_PREFIX_LENGTH = 3;

/** The name of the shard for the empty prefix. */
export const WHOLE_NAME = 'all';

/** 128 · √32. At this average, 32 times as many shards would be as near to 128 records per shard. */
const MAX_MEAN_RECORDS = 724;

/**
 * zstd's default. Level 9 saves up to 2 % and takes three times as long. Level 19 saves 1 % and takes ten times as
 * long. Most of a record is hashes and signatures, which do not compress (measured on the records of test/bench).
 */
const COMPRESSION_LEVEL = 3;

/**
 * Returns how many characters of the store hash name a shard. Shards then have as near to 128 records as steps of 32
 * allow: 23 to 724 on average. One shard up to 724 records, 32 up to 23,168, 1024 up to 741,376.
 *
 * A shard costs every reader its line of 67 bytes in the manifest. A record costs about 520 bytes to readers who look
 * up its neighbours. Smaller shards make ten lookups cheaper; they make the whole hash map, which most followers read,
 * up to a quarter larger, since less text is compressed together. 128 is a compromise.
 */
export function prefixLengthFor(recordCount: number): number {
  let length = 0;
  while (length < MAX_PREFIX_LENGTH && recordCount > MAX_MEAN_RECORDS * 32 ** length) length++;
  return length;
}

/** Returns the prefix of the shard for a store hash. Empty for length 0. */
export function shardPrefix(storeHash: StoreHash, prefixLength: number): string {
  return storeHash.slice(0, prefixLength);
}

/**
 * Returns the path of a shard, relative to the manifest: `shards/<prefix>.zst`, or `shards/all.zst` for the empty
 * prefix.
 */
export function shardFileName(prefix: string): string {
  return `shards/${prefix === '' ? WHOLE_NAME : prefix}.zst`;
}

/**
 * Writes a shard: the records as text (see {@link formatRecords}) in one zstd frame. The same records give the same
 * bytes with the same version of zstd. Another version may give other bytes, which decode to the same records.
 *
 * @throws NarswarmError as {@link formatRecords} does.
 */
export function encodeShard(records: readonly NarInfo[]): ListedShard {
  const params = { [constants.ZSTD_c_compressionLevel]: COMPRESSION_LEVEL };
  const text = Buffer.from(formatRecords(records));
  const bytes = zstdCompressSync(text, { params });
  if (text.length <= MAX_SHARD_TEXT_BYTES && bytes.length <= MAX_SHARD_BYTES) return bytes as Uint8Array as ListedShard;
  throw invalid(
    `${records.length} records have ${text.length} bytes, ${bytes.length} compressed: a shard may have ${MAX_SHARD_TEXT_BYTES}, ${MAX_SHARD_BYTES} compressed`,
  );
}

/**
 * The bytes of a shard that a manifest lists. (Bytes after a zstd frame are ignored, so others could hide data there.)
 */
export type ListedShard = Uint8Array & { readonly [LISTED]: true };
declare const LISTED: unique symbol;

/**
 * Reads a shard.
 *
 * @param options.maxBytes limit on the decompressed size
 * @param options.prefix prefix that all store hashes must have. Default: any
 * @throws NarswarmError `INDEX_INVALID` and nothing else.
 */
export function decodeShard(
  bytes: ListedShard,
  { maxBytes, prefix = '' }: { readonly maxBytes: number; readonly prefix?: string },
): ShardRecords {
  const records = ShardRecords.scan(decompress(bytes, maxBytes));
  for (const hash of prefix === '' ? [] : records.keys())
    if (!hash.startsWith(prefix)) throw invalid(`${shardFileName(prefix)} has a record of ${hash}`);
  return records;
}

/** Makes the manifest's line of a shard. */
export function shardEntryOf(prefix: string, bytes: Uint8Array): ShardEntry {
  return { prefix, sizeBytes: bytes.length, sha256: sha256Of(bytes) };
}

/**
 * Checks that these are the bytes that the signed manifest promises.
 *
 * @throws NarswarmError `INDEX_INVALID`, naming the shard's file.
 */
export function assertShard(entry: ShardEntry, bytes: Uint8Array): asserts bytes is ListedShard {
  const name = shardFileName(entry.prefix);
  if (bytes.length !== entry.sizeBytes) {
    throw invalid(`${name} has ${bytes.length} bytes, the manifest says ${entry.sizeBytes}`);
  }
  if (sha256Of(bytes) !== entry.sha256) throw invalid(`${name} is not the one that the manifest was signed for`);
}

/** Limit on the window: 8 MiB. A larger one would be allocated before there is any data for it. */
const MAX_WINDOW_LOG = 23;

function decompress(bytes: Uint8Array, maxBytes: number): Buffer {
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };
    return zstdDecompressSync(bytes, { maxOutputLength: maxBytes, params });
  } catch (cause) {
    throw invalid(`corrupt shard: not zstd of at most ${maxBytes} bytes`, { cause });
  }
}

function sha256Of(bytes: Uint8Array): string {
  return encodeNix32(createHash('sha256').update(bytes).digest());
}

function invalid(message: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('INDEX_INVALID', message, options);
}
