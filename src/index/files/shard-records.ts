import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf } from '../../nix/store-path.ts';

/** Limit on the length of a record's first line. A store directory, a hash and a name of 211 characters are shorter. */
const FIRST_LINE_BYTES = 512;
const HASH_LENGTH = 32;
/** What precedes the store hash. */
const BEFORE_HASH = /^(?:StorePath: \S*\/(?=[0-9a-df-np-sv-z]{32}-)|In: (?=[0-9a-df-np-sv-z]{32} [a-zA-Z0-9._-]+\n))/;
/** The first byte of a reference. */
const IN = 0x49;
const REFERENCE = /^In: \S+ (\S+)\n$/;
const LINE_END = 0x0a;
const SEPARATOR = '\n\n';

/** Writes the line that takes the place of a record: the record is in the shards of this root. */
export function formatReference(hash: StoreHash, root: string): string {
  return `In: ${hash} ${root}\n`;
}

/**
 * The records of a shard: narinfos in the order of their store hashes, separated by empty lines. Finds them by
 * bisection and parses them on demand. So a shard takes no more memory than its text and 8 bytes per record.
 *
 * A record may be replaced by a reference to a named root ({@link formatReference}), whose shards have it.
 */
export class ShardRecords implements Iterable<readonly [StoreHash, NarInfo]> {
  readonly #text: Buffer;
  /** Start of each record. The last entry is where the next one would start. */
  readonly #starts: Uint32Array;
  /** Place of each store hash. */
  readonly #hashes: Uint32Array;

  private constructor(text: Buffer, starts: readonly number[], hashes: readonly number[]) {
    this.#text = text;
    this.#starts = Uint32Array.from(starts);
    this.#hashes = Uint32Array.from(hashes);
  }

  /**
   * Finds the start of each record, without parsing it.
   *
   * @throws NarswarmError `INDEX_INVALID` with the record's place, from 1, in `facts.record`, if a record does not
   *   begin with a store path, or if the store hashes do not ascend (so also for a second record of a path)
   */
  static scan(text: Buffer): ShardRecords {
    const starts: number[] = [];
    const hashes: number[] = [];
    let previous = '';
    for (let start = 0; text.length > 0 && start <= text.length;) {
      const end = text.indexOf(SEPARATOR, start);
      const next = end === -1 ? text.length + 1 : end + SEPARATOR.length;
      const place = hashPlace(text, start);
      if (place === undefined) {
        parse(starts.length + 1, text.subarray(start, next - 1)); // names the error, if it can
        throw corrupt(starts.length + 1, 'it does not begin with its store path');
      }
      const hash = hashAt(text, place);
      if (hash <= previous) throw corrupt(starts.length + 1, `${hash} is repeated or not in order`);
      previous = hash;
      starts.push(start);
      hashes.push(place);
      start = next;
    }
    return new ShardRecords(text, [...starts, text.length + 1], hashes);
  }

  get size(): number {
    return this.#starts.length - 1;
  }

  /** Bytes of the text. */
  get textBytes(): number {
    return this.#text.length;
  }

  /**
   * Returns the record of a store hash. Undefined if there is none. Does not rebuild its torrent: see
   * `torrentOfRecord`.
   *
   * @throws NarswarmError `INDEX_INVALID` with its place in `facts.record` if it is malformed
   */
  get(hash: StoreHash): NarInfo | undefined {
    const index = this.indexOf(hash);
    return index === undefined || this.rootAt(index) !== undefined ? undefined : this.#parse(index);
  }

  /** Returns true if there is a record or a reference. */
  has(hash: StoreHash): boolean {
    return this.indexOf(hash) !== undefined;
  }

  /** Returns true if this is the text of all records. */
  isText(text: Buffer): boolean {
    return this.#text.equals(text);
  }

  /** Returns the place of a store hash, from 0. Undefined if there is none. */
  indexOf(hash: StoreHash): number | undefined {
    let [from, to] = [0, this.size];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#hashAt(middle) < hash) from = middle + 1;
      else to = middle;
    }
    return from < this.size && this.#hashAt(from) === hash ? from : undefined;
  }

  /** Returns the root that a reference names. Undefined if there is a record. @param index from 0 */
  rootAt(index: number): string | undefined {
    if (this.#text[this.#starts[index] ?? 0] !== IN) return undefined;
    return REFERENCE.exec(this.textAt(index).toString('latin1'))?.[1];
  }

  /** Returns the text of a record or reference, with its line end. @param index from 0 */
  textAt(index: number): Buffer {
    const [start = 0, next = 0] = this.#starts.subarray(index, index + 2);
    return this.#text.subarray(start, next - 1);
  }

  /** Yields the store hashes of records and references, in order. */
  *keys(): Generator<StoreHash> {
    for (let index = 0; index < this.size; index++) yield this.#hashAt(index);
  }

  /** Yields all records, without references. @throws as {@link get} */
  *[Symbol.iterator](): Generator<readonly [StoreHash, NarInfo]> {
    for (let index = 0; index < this.size; index++)
      if (this.rootAt(index) === undefined) yield [this.#hashAt(index), this.#parse(index)];
  }

  #hashAt(index: number): StoreHash {
    return hashAt(this.#text, this.#hashes[index] ?? 0);
  }

  #parse(index: number): NarInfo {
    const info = parse(index + 1, this.textAt(index));
    // A second StorePath line would replace the first.
    if (storeHashOf(info.storePath) !== this.#hashAt(index)) throw corrupt(index + 1, 'it has two store paths');
    return info;
  }
}

/** Returns the place of the store hash in the first line of a record or reference. Undefined if there is none. */
function hashPlace(text: Buffer, start: number): number | undefined {
  const end = text.indexOf(LINE_END, start) + 1 || text.length;
  const line = text.toString('latin1', start, Math.min(end, start + FIRST_LINE_BYTES));
  const [before] = BEFORE_HASH.exec(line) ?? [];
  return before === undefined ? undefined : start + before.length;
}

function hashAt(text: Buffer, place: number): StoreHash {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the pattern of the first line has checked it
  return text.toString('latin1', place, place + HASH_LENGTH) as StoreHash;
}

function parse(record: number, bytes: Buffer): NarInfo {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw corrupt(record, 'it is not UTF-8', { cause });
  }
  try {
    return parseNarInfo(text);
  } catch (error) {
    if (isNarswarmError(error)) throw corrupt(record, error.message, { cause: error });
    throw error;
  }
}

function corrupt(record: number, reason: string, options: { cause?: unknown } = {}): NarswarmError {
  const message = `corrupt hash map: record ${record}: ${reason}`;
  return new NarswarmError('INDEX_INVALID', message, { ...options, facts: { record } });
}
