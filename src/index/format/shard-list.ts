/**
 * Lists of shards: files of a hash map that name other files, so that the manifest stays small.
 *
 * If the prefixes of a hash map have more than one character, the manifest names a list for each first character. Its
 * lines are those of the manifest: `<prefix> <bytes> <sha256>`.
 *
 * A named root has a list of its own. It names the shards that have the records of its closure:
 *
 *     0a1b2c 1xyz09 65324 <sha256 in nix32> *
 *
 * The first two words are the first characters of the lowest and of the highest store hash in the shard. The fifth one
 * says which records count for this root, as a bit for each record, in base64url, the lowest bit first; `*` for all.
 *
 * If the shard consists of records of shards that followers may have, further words name them: `<sha256>:<bits>`, where
 * the bits say which of their records it has.
 */
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { quote } from '../../nix/quote.ts';
import { MAX_LIST_TEXT_BYTES, MAX_LISTED_SHARDS, MAX_MAP_BYTES, MAX_SHARD_BYTES, MAX_SOURCES } from './limits.ts';
import { formatShard, parseShard, parseWhole } from './manifest-values.ts';
import { compressFile, decompressFile, type FileEntry, type ListedShard, type ShardEntry } from './shard.ts';

/** Characters of the store hashes in a root's list. */
const RANGE_LENGTH = 6;
const ROOT_SHARD =
  /^([0-9a-df-np-sv-z]{6}) ([0-9a-df-np-sv-z]{6}) (\d+) ([01][0-9a-df-np-sv-z]{51}) (\*|[\w-]{1,8192})((?: \S+)*)$/;
const SOURCE = /^([01][0-9a-df-np-sv-z]{51}):(\*|[\w-]{1,8192})$/;

/** A shard whose records are in another one. Its file is named by its SHA-256. */
export interface SourceShard {
  readonly sha256: string;
  /** A bit for each record that the other shard has, the lowest first. Undefined: it has all. */
  readonly live: Uint8Array | undefined;
}

/** A shard of a named root. Its file is named by its SHA-256. */
export interface RootShard extends FileEntry {
  /** The first characters of its lowest and of its highest store hash. */
  readonly first: string;
  readonly last: string;
  /** A bit for each record that counts, the lowest first. Undefined: all do. */
  readonly live: Uint8Array | undefined;
  /** Shards that it can be made from. Empty if it has new records. */
  readonly sources: readonly SourceShard[];
}

/** Returns true if a shard may have a record of this store hash. */
export function mayHold({ first, last }: RootShard, hash: StoreHash): boolean {
  const start = hash.slice(0, RANGE_LENGTH);
  return first <= start && start <= last;
}

/** Returns true if the record at this place of a shard, from 0, counts for the root. */
export function isLive({ live }: Pick<RootShard, 'live'>, index: number): boolean {
  return live === undefined || ((live[index >> 3] ?? 0) >> (index & 7)) % 2 === 1;
}

/** Returns a bit for each of the places, from 0. Undefined if these are all. */
export function bitsOf(places: readonly number[], size: number): Uint8Array | undefined {
  if (places.length === size) return undefined;
  const bits = new Uint8Array(Math.ceil(size / 8));
  for (const place of places) bits[place >> 3]! |= 1 << (place & 7);
  return bits;
}

/**
 * Makes the entry of a shard in the list of a root.
 *
 * @param shard.size number of its records
 * @param places the places of the records that count, from 0
 */
export function rootShardOf(
  shard: {
    readonly entry: FileEntry;
    readonly first: StoreHash;
    readonly last: StoreHash;
    readonly size: number;
    readonly sources: readonly SourceShard[];
  },
  places: readonly number[],
): RootShard {
  const { sizeBytes, sha256 } = shard.entry;
  const [first, last] = [shard.first, shard.last].map((hash) => hash.slice(0, RANGE_LENGTH)) as [string, string];
  return { sizeBytes, sha256, first, last, live: bitsOf(places, shard.size), sources: shard.sources };
}

/** Writes the list of a root. */
export function encodeRootList(shards: readonly RootShard[]): ListedShard {
  const lines = shards.map(({ first, last, sizeBytes, sha256, live, sources }) => {
    const from = sources.map((source) => ` ${source.sha256}:${formatBits(source.live)}`);
    return `${first} ${last} ${sizeBytes} ${sha256} ${formatBits(live)}${from.join('')}\n`;
  });
  return compressFile(Buffer.from(lines.join('')));
}

/** Writes the list of the shards with the same first character. */
export function encodePrefixList(shards: readonly ShardEntry[]): ListedShard {
  return compressFile(Buffer.from(shards.map((shard) => `${formatShard(shard)}\n`).join('')));
}

/** Reads the list of a root. @throws NarswarmError `INDEX_INVALID` and nothing else */
export function decodeRootList(bytes: ListedShard): RootShard[] {
  return linesOf(bytes, (line) => {
    const [, first, last, size, sha256, bits, from] = ROOT_SHARD.exec(line) ?? [];
    const sources = from?.split(' ').slice(1) ?? [];
    if (first === undefined || last === undefined || size === undefined || sha256 === undefined || bits === undefined)
      throw invalid(`${quote(line)} is not <first> <last> <bytes> <sha256> <bits>`);
    if (sources.length > MAX_SOURCES) throw invalid(`a shard is made from more than ${MAX_SOURCES} others`);
    return {
      sizeBytes: parseWhole(size, 1, MAX_SHARD_BYTES),
      sha256,
      first,
      last,
      live: parseBits(bits),
      sources: sources.map(parseSource),
    };
  });
}

function parseSource(text: string): SourceShard {
  const [, sha256, bits] = SOURCE.exec(text) ?? [];
  if (sha256 === undefined || bits === undefined) throw invalid(`${quote(text)} is not <sha256>:<bits>`);
  return { sha256, live: parseBits(bits) };
}

function formatBits(bits: Uint8Array | undefined): string {
  return bits === undefined ? '*' : Buffer.from(bits).toString('base64url');
}

function parseBits(text: string): Uint8Array | undefined {
  return text === '*' ? undefined : new Uint8Array(Buffer.from(text, 'base64url'));
}

/**
 * Reads the list of the shards with one first character.
 *
 * @param list.prefix the first character
 * @param prefixLength characters of the prefixes of its shards
 * @throws NarswarmError `INDEX_INVALID` and nothing else
 */
export function decodePrefixList(bytes: ListedShard, list: ShardEntry, prefixLength: number): ShardEntry[] {
  let before = '';
  return linesOf(bytes, (line) => {
    const entry = parseShard(line, prefixLength);
    if (!entry.prefix.startsWith(list.prefix) || entry.prefix <= before)
      throw new NarswarmError('INDEX_INVALID', `shard ${quote(entry.prefix)} is repeated or not in order`);
    before = entry.prefix;
    return entry;
  });
}

/** Reads the lines of a list. The named shards may not have more bytes than a whole hash map. */
function linesOf<Entry extends FileEntry>(bytes: ListedShard, parse: (line: string) => Entry): Entry[] {
  const text = decompressFile(bytes, MAX_LIST_TEXT_BYTES).toString('latin1');
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  if (lines.length > MAX_LISTED_SHARDS) throw invalid(`it names more than ${MAX_LISTED_SHARDS} shards`);
  let totalBytes = 0;
  return lines.map((line) => {
    let entry: Entry;
    try {
      entry = parse(line);
    } catch (error) {
      if (isNarswarmError(error)) throw invalid(error.message, { cause: error });
      throw error;
    }
    totalBytes += entry.sizeBytes;
    if (totalBytes > MAX_MAP_BYTES) throw invalid(`its shards have more than ${MAX_MAP_BYTES} bytes`);
    return entry;
  });
}

function invalid(reason: string, options: { cause?: unknown } = {}): NarswarmError {
  return new NarswarmError('INDEX_INVALID', `not a list of shards that narswarm can use: ${reason}`, options);
}
