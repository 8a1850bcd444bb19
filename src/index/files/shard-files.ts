import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { ByteTurns } from '../../bytes/byte-turns.ts';
import type { IndexDir } from './index-dir.ts';
import {
  MAX_LIST_TEXT_BYTES,
  MAX_LISTS_TEXT_BYTES,
  MAX_MAP_BYTES,
  MAX_OPEN_TEXT_BYTES,
  MAX_SHARD_BYTES,
  MAX_SHARD_TEXT_BYTES,
} from '../format/limits.ts';
import { ofPublisher } from '../format/of-publisher.ts';
import { joinRecords } from '../record.ts';
import { isLive } from '../format/shard-list.ts';
import type { ShardRecords } from './shard-records.ts';
import {
  assertShard,
  compressFile,
  decodeShard,
  decompressFile,
  fileNameOf,
  isFile,
  type FileEntry,
  type ListedShard,
} from '../format/shard.ts';

/** A source of the files of a hash map. */
export interface IndexSource {
  /** Reads `manifest` or a file below `shards/`. Refuses more than `maxBytes`. */
  readFile(name: string, options: { maxBytes: number; signal: AbortSignal; sha256?: string }): Promise<Uint8Array>;
}

const SHARD_TIMEOUT_MS = 10_000;
/** Time until a failed file is requested again. A walk looks up many paths of one shard at once. */
const FAILURE_MS = 10_000;

export interface ShardFilesOptions {
  /** Ends all fetches, for all callers. Default: nothing does. */
  readonly lifetime?: AbortSignal;
  /** Milliseconds until a file that nobody serves is given up. Default: 10,000. */
  readonly shardTimeoutMs?: number | undefined;
}

/**
 * The files of one edition of a hash map. Reads a file from the folder of earlier runs, or else from the source, and
 * checks it against its entry. Keeps at most {@link MAX_OPEN_TEXT_BYTES} of shards and one arriving shard in memory.
 */
export class ShardFiles {
  readonly #name: string;
  readonly #dir: Pick<IndexDir, 'readShard' | 'writeShard'>;
  readonly #source: IndexSource;
  readonly #options: ShardFilesOptions;
  /** Files that are arriving, lists that were read, and files that failed recently. */
  readonly #pending = new Map<string, { contents: Promise<unknown>; failedAtMs?: number }>();
  /** Loaded shards, least recently used first. */
  readonly #open = new Map<string, ShardRecords>();
  readonly #turns = new ByteTurns(MAX_SHARD_BYTES);
  #listTextBytes = 0;
  /** Bytes that came from the source. */
  fetchedBytes = 0;

  /** @param name the publisher, for errors */
  constructor(
    name: string,
    dir: Pick<IndexDir, 'readShard' | 'writeShard'>,
    source: IndexSource,
    options: ShardFilesOptions,
  ) {
    this.#name = name;
    this.#dir = dir;
    this.#source = source;
    this.#options = options;
  }

  /** Returns the records of a shard that is in memory. */
  atHand(entry: FileEntry): ShardRecords | undefined {
    const open = this.#open.get(entry.sha256);
    if (open !== undefined) this.#keepOpen(entry.sha256, open);
    return open;
  }

  /**
   * Reads the records of a shard, once for all callers that need it at the same time.
   *
   * @throws INDEX_INVALID if it does not match its entry; INDEX_UNREACHABLE if no source has it in time; errors of the
   *   source
   */
  records(entry: FileEntry): Promise<ShardRecords> {
    const open = this.atHand(entry);
    if (open !== undefined) return Promise.resolve(open);
    const records = this.#once(entry, async () => {
      const { prefix = '' } = entry;
      const decoded = decodeShard(await this.load(entry), { maxBytes: MAX_SHARD_TEXT_BYTES, prefix });
      this.#keepOpen(entry.sha256, decoded);
      return decoded;
    });
    const forget = (): void => void this.#pending.delete(entry.sha256);
    records.then(forget, () => undefined);
    return records;
  }

  /** Reads a list of shards, and keeps it. @throws as {@link records}; INDEX_INVALID for more lists than a reader keeps */
  list<List>(entry: FileEntry, decode: (bytes: ListedShard) => List): Promise<List> {
    return this.#once(entry, async () => {
      const bytes = await this.load(entry);
      const textBytes = decompressFile(bytes, MAX_LIST_TEXT_BYTES).length;
      if (this.#listTextBytes + textBytes > MAX_LISTS_TEXT_BYTES)
        throw new NarswarmError('INDEX_INVALID', `its lists of shards have more than ${MAX_LISTS_TEXT_BYTES} bytes`);
      this.#listTextBytes += textBytes;
      return decode(bytes);
    });
  }

  /** Returns the bytes of a file. Puts it into the folder. @throws as {@link records} */
  async load(entry: FileEntry): Promise<ListedShard> {
    const kept = await this.#dir.readShard(entry);
    if (isFile(entry, kept)) return kept; // otherwise it belongs to another edition
    const made = await this.#make(entry).catch(unlessInvalid);
    if (made !== undefined) return made;
    // Each list names at most a whole hash map, but there may be a list for each root.
    if (this.fetchedBytes + entry.sizeBytes > MAX_MAP_BYTES) {
      const error = new NarswarmError('INDEX_INVALID', `the hash map has more than ${MAX_MAP_BYTES} bytes`);
      throw ofPublisher(error, this.#name);
    }
    const bytes = await this.#fetch(entry);
    try {
      assertShard(entry, bytes);
    } catch (error) {
      throw ofPublisher(error, this.#name);
    }
    this.fetchedBytes += bytes.length;
    await this.#dir.writeShard(entry, bytes);
    return bytes;
  }

  /**
   * Makes a shard from records of other shards in the folder. Undefined if one of these is missing, or if the result
   * has another SHA-256, since zstd has another version or the list is wrong.
   */
  async #make(entry: FileEntry): Promise<ListedShard | undefined> {
    const texts = new Map<StoreHash, Buffer>();
    let textBytes = 0;
    for (const { sha256, live } of entry.sources ?? []) {
      const bytes = await this.#dir.readShard({ sha256, sizeBytes: 0 });
      if (bytes === undefined || !isFile({ sha256, sizeBytes: bytes.length }, bytes)) return undefined;
      const records = decodeShard(bytes, { maxBytes: MAX_SHARD_TEXT_BYTES });
      for (const [place, hash] of [...records.keys()].entries()) {
        if (!isLive({ live }, place)) continue;
        const text = Buffer.from(records.textAt(place)); // a part of the text would keep all of it in memory
        textBytes += text.length;
        if (textBytes > MAX_SHARD_TEXT_BYTES) return undefined;
        texts.set(hash, text);
      }
    }
    if (texts.size === 0) return undefined;
    const text = joinRecords([...texts.keys()].toSorted().map((hash) => texts.get(hash)!));
    const made = text.length > MAX_SHARD_TEXT_BYTES ? undefined : compressFile(text);
    if (!isFile(entry, made)) return undefined;
    await this.#dir.writeShard(entry, made);
    return made;
  }

  /** Runs work on a file unless it is running, was done, or failed a moment ago. */
  #once<Contents>(entry: FileEntry, work: () => Promise<Contents>): Promise<Contents> {
    const { sha256 } = entry;
    const known = this.#pending.get(sha256);
    const failedAgoMs = performance.now() - (known?.failedAtMs ?? Infinity); // -Infinity if it did not fail
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a file is either a shard or one kind of list
    if (known !== undefined && failedAgoMs < FAILURE_MS) return known.contents as Promise<Contents>;
    const contents = this.#turns.run(entry.sizeBytes, async () => {
      try {
        return await work();
      } catch (error) {
        throw ofPublisher(error, this.#name);
      }
    });
    const pending: { contents: Promise<unknown>; failedAtMs?: number } = { contents };
    this.#pending.set(sha256, pending);
    contents.catch(() => (pending.failedAtMs = performance.now()));
    return contents;
  }

  /** Keeps a shard in memory. Drops the least recently used shards if they take too much memory. */
  #keepOpen(sha256: string, records: ShardRecords): void {
    this.#open.delete(sha256);
    this.#open.set(sha256, records);
    let bytes = 0;
    for (const { textBytes } of this.#open.values()) bytes += textBytes;
    for (const [oldest, { textBytes }] of this.#open) {
      if (bytes <= MAX_OPEN_TEXT_BYTES || oldest === sha256) return;
      this.#open.delete(oldest);
      bytes -= textBytes;
    }
  }

  async #fetch(entry: FileEntry): Promise<Uint8Array> {
    const { lifetime, shardTimeoutMs = SHARD_TIMEOUT_MS } = this.#options;
    const deadline = AbortSignal.timeout(shardTimeoutMs);
    const signal = lifetime === undefined ? deadline : AbortSignal.any([lifetime, deadline]);
    const file = fileNameOf(entry);
    try {
      return await this.#source.readFile(file, { maxBytes: entry.sizeBytes, signal, sha256: entry.sha256 });
    } catch (cause) {
      if (!deadline.aborted || lifetime?.aborted === true) throw cause;
      throw new NarswarmError(
        'INDEX_UNREACHABLE',
        `nobody sent ${file} of the hash map ${this.#name} within ${shardTimeoutMs / 1000} s`,
        { cause, facts: { publisher: this.#name, file } },
      );
    }
  }
}

/** The list may name another file as a shard. */
function unlessInvalid(error: unknown): undefined {
  if (!isNarswarmError(error, 'INDEX_INVALID')) throw error;
}
