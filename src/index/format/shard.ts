/**
 * Shards: the records of a hash map, compressed. The records of named roots have shards of their own (root-shards.ts).
 * The others are divided by the first characters of their store hashes. Looking up ten paths fetches ten shards, not a
 * hundred thousand records.
 */
import { createHash } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { NarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { encodeNix32 } from '../../nix/nix32.ts';
import { MAX_SHARD_BYTES, MAX_SHARD_TEXT_BYTES } from './limits.ts';
import { formatRecords } from '../record.ts';
import type { SourceShard } from './shard-list.ts';
import { ShardRecords } from '../files/shard-records.ts';

/** A file of a hash map, as the manifest or a list names it. */
export interface FileEntry {
  /** Set if the file is named by a prefix. Others are named by their SHA-256. */
  readonly prefix?: string;
  /** Bytes of the compressed file; above 0. */
  readonly sizeBytes: number;
  /** SHA-256 of the compressed file: 52 nix32 characters. */
  readonly sha256: string;
  /** Files that it can be made from (shard-list.ts). Default: none. */
  readonly sources?: readonly SourceShard[];
}

/** A shard whose store hashes have the same first characters, or a list of such shards. */
export interface ShardEntry extends FileEntry {
  /** The first characters of its store hashes. Empty if one shard has all records. */
  readonly prefix: string;
}

/**
 * The longest prefix that a manifest may use: 1024 shards. 32,768 would make single look-ups in a million records
 * cheaper. But a publisher would write most of these files for each edition, and readers of the whole hash map would
 * fetch a fifth more.
 */
export const MAX_PREFIX_LENGTH = 2;

/** The name of the shard for the empty prefix. */
export const WHOLE_NAME = 'all';

/** 128 · √32. At this average, 32 times as many shards would be as near to 128 records per shard. */
const MAX_MEAN_RECORDS = 724;

/**
 * zstd's default. Level 9 saves up to 2 % and takes three times as long. Level 19 saves 1 % and takes ten times as
 * long. Most of a record is hashes and signatures, which do not compress (measured on the records of test/bench).
 */
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 3 };

/**
 * Returns how many characters of the store hash name a shard. Shards then have as near to 128 records as steps of 32
 * allow: 23 to 724 on average. One shard up to 724 records, 32 up to 23,168, then 1024.
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

/** Returns the path of a file, relative to the manifest: `shards/<prefix>.zst` or `shards/<sha256>.zst`. */
export function fileNameOf({ prefix, sha256 }: FileEntry): string {
  return shardFileName(prefix ?? sha256);
}

/**
 * Writes a shard: the records as text (see {@link formatRecords}) in one zstd frame. The same records give the same
 * bytes with the same version of zstd. Another version may give other bytes, which decode to the same records.
 *
 * @throws NarswarmError as {@link formatRecords} does.
 */
export function encodeShard(records: readonly NarInfo[]): ListedShard {
  return compressFile(Buffer.from(formatRecords(records)));
}

/**
 * Compresses the text of a shard, or of a list of shards.
 *
 * @throws NarswarmError `INDEX_INVALID` if it is larger than readers accept
 */
export function compressFile(text: Uint8Array): ListedShard {
  const bytes = zstdCompressSync(text, { params: COMPRESSION });
  if (text.length <= MAX_SHARD_TEXT_BYTES && bytes.length <= MAX_SHARD_BYTES) return bytes as Uint8Array as ListedShard;
  throw invalid(
    `a shard has ${text.length} bytes, ${bytes.length} compressed: it may have ${MAX_SHARD_TEXT_BYTES}, ${MAX_SHARD_BYTES} compressed`,
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
  const records = ShardRecords.scan(decompressFile(bytes, maxBytes));
  for (const hash of prefix === '' ? [] : records.keys())
    if (!hash.startsWith(prefix)) throw invalid(`${shardFileName(prefix)} has a record of ${hash}`);
  return records;
}

/** Makes the manifest's line of a shard. */
export function shardEntryOf(prefix: string, bytes: Uint8Array): ShardEntry {
  return { prefix, sizeBytes: bytes.length, sha256: sha256Of(bytes) };
}

/** Makes the entry of a file that is named by its SHA-256. */
export function fileEntryOf(bytes: Uint8Array): FileEntry {
  return { sizeBytes: bytes.length, sha256: sha256Of(bytes) };
}

/**
 * Checks that these are the bytes that the signed manifest promises.
 *
 * @throws NarswarmError `INDEX_INVALID`, naming the shard's file.
 */
export function assertShard(entry: FileEntry, bytes: Uint8Array): asserts bytes is ListedShard {
  const name = fileNameOf(entry);
  if (bytes.length !== entry.sizeBytes) {
    throw invalid(`${name} has ${bytes.length} bytes, the manifest says ${entry.sizeBytes}`);
  }
  if (sha256Of(bytes) !== entry.sha256) throw invalid(`${name} is not the one that the manifest was signed for`);
}

/** Limit on the window: 8 MiB. A larger one would be allocated before there is any data for it. */
const MAX_WINDOW_LOG = 23;

/**
 * Returns the text of a file.
 *
 * @throws NarswarmError `INDEX_INVALID` if it is not zstd of at most `maxBytes`
 */
export function decompressFile(bytes: ListedShard, maxBytes: number): Buffer {
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };
    return zstdDecompressSync(bytes, { maxOutputLength: maxBytes, params });
  } catch (cause) {
    throw invalid(`corrupt shard: not zstd of at most ${maxBytes} bytes`, { cause });
  }
}

/** Returns true if these are the bytes that the entry promises. */
export function isFile(entry: FileEntry, bytes: Uint8Array | undefined): bytes is ListedShard {
  return bytes !== undefined && bytes.length === entry.sizeBytes && sha256Of(bytes) === entry.sha256;
}

function sha256Of(bytes: Uint8Array): string {
  return encodeNix32(createHash('sha256').update(bytes).digest());
}

function invalid(message: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('INDEX_INVALID', message, options);
}
