import { open, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { inState } from '../state-folder.ts';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import type { InfoHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { formatEntry, isAdded, isSameEntry, parseEntry, withKnown, type CatalogueEntry } from './catalogue-entry.ts';
import type { FileStore } from '../file-store.ts';

/** Bytes of the file that are read at a time. */
const READ_BYTES = 1024 * 1024;

/**
 * The list of requested NARs with their pieces: `narswarm/catalogue.jsonl`, one JSON object per line. Lines are only
 * appended, so several processes may append at once, and a torn last line costs one entry. A daemon reads the lines
 * that a fetch appends.
 */
export class Catalogue {
  readonly #path: string;
  /** Usually one entry per torrent. Several store paths may have the same NAR, or claim to. */
  readonly #byInfoHash = new Map<InfoHash, CatalogueEntry | readonly CatalogueEntry[]>();
  readonly #byStorePath = new Map<StorePath, CatalogueEntry>();
  /** Entries by {@link tailOf} FileHash. Made on first use. */
  #byTail: Map<string, CatalogueEntry | readonly CatalogueEntry[]> | undefined;
  readonly #listeners = new Set<(entry: CatalogueEntry) => void>();
  #offset = 0;
  #inode = 0;
  #bornAtMs = 0;
  #rest = '';
  /** Settles when the last {@link refresh} has ended. */
  #reading: Promise<unknown> = Promise.resolve();
  #version = 0;
  #addedCount = 0;

  constructor(store: FileStore) {
    this.#path = cataloguePath(store);
  }

  /** Opens the catalogue of a store and reads it. @throws STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<Catalogue> {
    const catalogue = new Catalogue(store);
    await catalogue.refresh();
    return catalogue;
  }

  get size(): number {
    return this.#byStorePath.size;
  }

  /** Increases with each added or replaced entry, so that nobody walks an unchanged catalogue. */
  get version(): number {
    return this.#version;
  }

  /** Number of entries of paths that `add` has added. */
  get addedCount(): number {
    return this.#addedCount;
  }

  /** Returns the entries of all store paths whose NAR is that torrent. */
  byInfoHash(infoHash: InfoHash): readonly CatalogueEntry[] {
    return asList(this.#byInfoHash.get(infoHash));
  }

  /** Returns the entries whose FileHash has this tail, including pending ones. */
  byTail(tail: string): readonly CatalogueEntry[] {
    if (this.#byTail === undefined) {
      this.#byTail = new Map();
      for (const entry of this.#byStorePath.values()) addTo(this.#byTail, tailOf(entry.fileHash), entry);
    }
    return asList(this.#byTail.get(tail));
  }

  /** Calls back with each entry that is added or replaced from now on. @returns a function that ends the calls */
  watch(listener: (entry: CatalogueEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  byStorePath(path: StorePath): CatalogueEntry | undefined {
    return this.#byStorePath.get(path);
  }

  /**
   * Returns the entry of a path if it describes the file that a narinfo names, and the file has not changed since it
   * was read.
   *
   * @param file the file as it is now; undefined if there is none
   */
  knows(
    { storePath, fileHash }: Pick<NarInfo, 'storePath' | 'fileHash'>,
    file: { readonly sizeBytes: number; readonly mtimeMs: number } | undefined,
  ): CatalogueEntry | undefined {
    const entry = this.#byStorePath.get(storePath);
    if (entry === undefined || file === undefined || entry.fileHash !== fileHash) return undefined;
    return entry.sizeBytes === file.sizeBytes && entry.mtimeMs === file.mtimeMs ? entry : undefined;
  }

  /** Yields the infohashes of NARs with known pieces. */
  infoHashes(): IterableIterator<InfoHash> {
    return this.#byInfoHash.keys();
  }

  entries(): IterableIterator<CatalogueEntry> {
    return this.#byStorePath.values();
  }

  /** Reads lines appended since the last time, by this or another process. Returns the number of new entries. */
  refresh(): Promise<number> {
    // One at a time: two at once would read and count the same bytes.
    const read = this.#reading.then(() => this.#refresh());
    this.#reading = read.catch(() => undefined); // reported to its caller
    return read;
  }

  async #refresh(): Promise<number> {
    const found = await stat(this.#path).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, this.#path);
    });
    if (found === undefined || (this.#isOf(found) && found.size === this.#offset)) return 0;
    const handle = await open(this.#path, 'r');
    try {
      const file = await handle.stat(); // it may be another file by now
      if (!this.#isOf(file) || file.size < this.#offset) this.#forget(file);
      // In parts: the text of a whole channel takes more memory than its entries.
      const part = Buffer.allocUnsafe(Math.min(READ_BYTES, file.size - this.#offset));
      const decoder = new StringDecoder('utf8');
      let count = 0;
      while (this.#offset < file.size) {
        const { bytesRead } = await handle.read(part, 0, Math.min(part.length, file.size - this.#offset), this.#offset);
        if (bytesRead === 0) break;
        this.#offset += bytesRead;
        count += this.#take(decoder.write(part.subarray(0, bytesRead)));
      }
      return count;
    } finally {
      await handle.close();
    }
  }

  /** Adds entries, for this process at once and for others at their next refresh. Writes all of them together. */
  async add(entries: readonly CatalogueEntry[]): Promise<void> {
    const news: CatalogueEntry[] = [];
    for (const entry of entries) {
      const known = this.#byStorePath.get(entry.storePath);
      const next = withKnown(entry, known);
      if (isSameEntry(known, next)) continue;
      this.#remember(next);
      news.push(next);
    }
    if (news.length === 0) return;
    try {
      await makeFolderBelow(dirname(dirname(this.#path)), dirname(this.#path));
      // A leading newline separates the entries from a line torn by a crash.
      await appendLasting(this.#path, `\n${news.map(formatEntry).join('\n')}\n`);
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  /** Returns true for the file that was read so far. The inode of a removed file is used again, at another time. */
  #isOf(file: { ino: number; birthtimeMs: number }): boolean {
    return file.ino === this.#inode && file.birthtimeMs === this.#bornAtMs;
  }

  #forget(replacement: { ino: number; birthtimeMs: number }): void {
    this.#byInfoHash.clear();
    this.#byStorePath.clear();
    this.#byTail = undefined;
    this.#addedCount = 0;
    this.#offset = 0;
    this.#rest = '';
    this.#inode = replacement.ino;
    this.#bornAtMs = replacement.birthtimeMs;
  }

  #take(text: string): number {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    let count = 0;
    for (const line of lines) {
      const entry = parseEntry(line);
      if (entry === undefined) continue;
      this.#remember(entry);
      count++;
    }
    return count;
  }

  #remember(line: CatalogueEntry): void {
    const before = this.#byStorePath.get(line.storePath);
    const entry = withKnown(line, before);
    this.#version++;
    this.#addedCount += Number(isAdded(entry)) - Number(before !== undefined && isAdded(before));
    this.#byStorePath.set(entry.storePath, entry);
    if (before !== undefined) {
      if (before.torrent !== undefined) removeFrom(this.#byInfoHash, before.torrent.infoHash, before);
      if (this.#byTail !== undefined) removeFrom(this.#byTail, tailOf(before.fileHash), before);
    }
    if (entry.torrent !== undefined) addTo(this.#byInfoHash, entry.torrent.infoHash, entry);
    if (this.#byTail !== undefined) addTo(this.#byTail, tailOf(entry.fileHash), entry);
    for (const listener of this.#listeners) listener(entry);
  }
}

/**
 * Returns the last 12 characters of a FileHash: its first 60 bits. Lists for members use it, since decoding a hundred
 * thousand hashes takes long.
 */
export function tailOf(fileHash: string): string {
  return fileHash.slice(-12);
}

function addTo<K>(map: Map<K, CatalogueEntry | readonly CatalogueEntry[]>, key: K, entry: CatalogueEntry): void {
  const known = map.get(key);
  map.set(key, known === undefined ? entry : [...asList(known), entry]);
}

function removeFrom<K>(map: Map<K, CatalogueEntry | readonly CatalogueEntry[]>, key: K, entry: CatalogueEntry): void {
  const [first, ...others] = asList(map.get(key)).filter((one) => one !== entry);
  if (first === undefined) map.delete(key);
  else map.set(key, others.length === 0 ? first : [first, ...others]);
}

function asList<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** Returns the file of a store's catalogue. */
export function cataloguePath(store: FileStore): string {
  return inState(store, 'catalogue.jsonl');
}

/**
 * Appends to a file that may be replaced by rename at any moment. Writes the text again if it went into the old file.
 */
async function appendLasting(path: string, text: string): Promise<void> {
  for (;;) {
    const handle = await open(path, 'a');
    try {
      await appendAtOnce(handle, Buffer.from(text));
      const [written, present] = [await handle.stat(), await stat(path).catch(() => undefined)];
      if (present === undefined || present.ino === written.ino) return;
    } finally {
      await handle.close();
    }
  }
}

/**
 * Appends bytes in one write(2), which no other writer can interrupt. `appendFile` writes chunks of 512 KiB, and
 * additions of others would tear the line between two chunks.
 */
export async function appendAtOnce(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    // fewer bytes only if the disk is full: then the next write throws
    const { bytesWritten } = await file.write(bytes, done);
    done += bytesWritten;
  }
}
