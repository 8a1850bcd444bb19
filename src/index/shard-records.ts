import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';

/** Limit on the length of a record's first line. A store directory, a hash and a name of 211 characters are shorter. */
const FIRST_LINE_BYTES = 512;
const FIRST_LINE = /^StorePath: \S*\/([0-9a-df-np-sv-z]{32})-/;
const SEPARATOR = '\n\n';

/**
 * The records of a shard: narinfos in the order of their store hashes, separated by empty lines. Finds them by
 * bisection and parses them on demand. So a shard takes no more memory than its text and 8 bytes per record.
 */
export class ShardRecords implements Iterable<readonly [StoreHash, NarInfo]> {
  readonly #text: Buffer;
  /** Start of each record. The last entry is where the next one would start. */
  readonly #starts: Float64Array;

  private constructor(text: Buffer, starts: readonly number[]) {
    this.#text = text;
    this.#starts = Float64Array.from(starts);
  }

  /**
   * Finds the start of each record, without parsing it.
   *
   * @throws NarswarmError `INDEX_INVALID` with the record's place, from 1, in `facts.record`, if a record does not
   *   begin with a store path, or if the store hashes do not ascend (so also for a second record of a path)
   */
  static scan(text: Buffer): ShardRecords {
    const starts: number[] = [];
    let previous = '';
    for (let start = 0; text.length > 0 && start <= text.length;) {
      const end = text.indexOf(SEPARATOR, start);
      const next = end === -1 ? text.length + 1 : end + SEPARATOR.length;
      const hash = hashAt(text, start);
      if (hash === undefined) {
        parse(starts.length + 1, text.subarray(start, next - 1)); // names the error, if it can
        throw corrupt(starts.length + 1, 'it does not begin with its store path');
      }
      if (hash <= previous) throw corrupt(starts.length + 1, `${hash} is repeated or not in order`);
      previous = hash;
      starts.push(start);
      start = next;
    }
    return new ShardRecords(text, [...starts, text.length + 1]);
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
    let [from, to] = [0, this.size];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#hashAt(middle) < hash) from = middle + 1;
      else to = middle;
    }
    return from < this.size && this.#hashAt(from) === hash ? this.#parse(from) : undefined;
  }

  /** Yields the store hashes, in order. */
  *keys(): Generator<StoreHash> {
    for (let index = 0; index < this.size; index++) yield this.#hashAt(index);
  }

  /** Yields all records. @throws as {@link get} */
  *[Symbol.iterator](): Generator<readonly [StoreHash, NarInfo]> {
    for (let index = 0; index < this.size; index++) yield [this.#hashAt(index), this.#parse(index)];
  }

  #hashAt(index: number): StoreHash {
    const hash = hashAt(this.#text, this.#starts[index] ?? 0);
    if (hash === undefined) throw corrupt(index + 1, 'it does not begin with its store path');
    return hash;
  }

  #parse(index: number): NarInfo {
    const [start = 0, next = 0] = this.#starts.subarray(index, index + 2);
    const info = parse(index + 1, this.#text.subarray(start, next - 1));
    // A second StorePath line would replace the first.
    if (storeHashOf(info.storePath) !== this.#hashAt(index)) throw corrupt(index + 1, 'it has two store paths');
    return info;
  }
}

function hashAt(text: Buffer, start: number): StoreHash | undefined {
  const line = text.toString('latin1', start, Math.min(text.length, start + FIRST_LINE_BYTES));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the brand is given here, after the check
  return FIRST_LINE.exec(line)?.[1] as StoreHash | undefined;
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
