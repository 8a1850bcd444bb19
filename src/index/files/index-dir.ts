import { open, readFile, readdir, rename, rm, stat, utimes, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../disk/make-folder.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { mapFolder, type PublisherAddress } from '../address.ts';
import { MANIFEST_NAME } from './index-torrent.ts';
import { MAX_MAP_BYTES } from '../format/limits.ts';
import { fileNameOf, type FileEntry } from '../format/shard.ts';
import { temporaryBeside } from '../../disk/replace.ts';

/** Marks the hash map of a publisher that is no longer followed. */
const UNFOLLOWED = 'unfollowed';

/** Tells with which keys the records of a publisher's own edition were verified. */
const VERIFIED = 'verified-with';

/** Folder of two manifests of different histories. */
const PROOF = 'two-histories';

const NAMED_BY_HASH = /^[0-9a-df-np-sv-z]{52}\.zst$/;
/** Time after which a file that is not read is removed. */
const UNUSED_MS = 31 * 86_400_000;
/** Limit on the bytes of such files, however many editions a publisher makes in that time: twice a whole hash map. */
const MOST_HASHED_BYTES = 2 * MAX_MAP_BYTES;
/** Interval of notes that a file is used. */
const NOTE_USE_MS = 86_400_000;

/** Returns the folder in which the hash map of a publisher is kept. @param dir the folder of all hash maps */
export function indexDirOf(dir: string, address: PublisherAddress): IndexDir {
  return new IndexDir(join(dir, mapFolder(address)));
}

/**
 * A hash map in a folder: `manifest` and the files below `shards/`, named as in the torrent and on a mirror. Every reader
 * checks them against the manifest, so a folder between two editions is harmless.
 */
export class IndexDir {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Reads the bytes of the manifest. Undefined if there is none. */
  readManifest(): Promise<Uint8Array | undefined> {
    return this.read(MANIFEST_NAME);
  }

  /** Reads the file of an entry. It may be of another edition. */
  async readShard(entry: FileEntry): Promise<Uint8Array | undefined> {
    const name = fileNameOf(entry);
    const bytes = await this.read(name);
    if (bytes !== undefined && entry.prefix === undefined) await this.#noteUse(name);
    return bytes;
  }

  /** @param replaces called just before the replacement with the present manifest. Returns true to replace it */
  async writeManifest(bytes: Uint8Array, replaces: (there: Uint8Array) => boolean = () => true): Promise<void> {
    await this.#write(MANIFEST_NAME, bytes, replaces);
  }

  async writeShard(entry: FileEntry, bytes: Uint8Array): Promise<void> {
    await this.#write(fileNameOf(entry), bytes);
  }

  /**
   * Removes the files named by their SHA-256 that nobody has read for a month, and the oldest of more than `mostBytes`. Those
   * of the last editions stay: shards of newer ones may be made from them.
   */
  async removeUnused(now: Date, mostBytes = MOST_HASHED_BYTES): Promise<void> {
    const folder = join(this.dir, 'shards');
    const files: { path: string; size: number; mtimeMs: number }[] = [];
    for (const name of await readdir(folder).catch(() => [])) {
      if (!NAMED_BY_HASH.test(name)) continue;
      const path = join(folder, name);
      const found = await stat(path).catch(() => undefined);
      if (found !== undefined) files.push({ path, size: found.size, mtimeMs: found.mtimeMs });
    }
    let bytes = 0;
    for (const { path, size, mtimeMs } of files.toSorted((a, b) => b.mtimeMs - a.mtimeMs)) {
      bytes += size;
      if (bytes > mostBytes || now.getTime() - mtimeMs > UNUSED_MS) await rm(path, { force: true });
    }
  }

  /** Removes the files below `shards/` that an edition does not have. */
  async removeOthers(files: Iterable<FileEntry>): Promise<void> {
    const kept = new Set(Array.from(files, fileNameOf));
    for (const name of await readdir(join(this.dir, 'shards')).catch(() => [])) {
      if (!kept.has(`shards/${name}`)) await rm(join(this.dir, 'shards', name), { force: true });
    }
  }

  /**
   * Returns false once the hash map is no longer followed. It is kept then, so that an older edition cannot pass as
   * new.
   */
  async isFollowed(): Promise<boolean> {
    return (await this.read(UNFOLLOWED)) === undefined;
  }

  /** Records whether the hash map is followed. Does nothing if there is no map. */
  async setFollowed(isFollowed: boolean): Promise<void> {
    if (isFollowed) await rm(join(this.dir, UNFOLLOWED), { force: true });
    else if ((await this.readManifest()) !== undefined) await this.#write(UNFOLLOWED, new Uint8Array());
  }

  /** Returns the text of the last {@link noteVerified}. */
  async verifiedWith(): Promise<string | undefined> {
    const bytes = await this.read(VERIFIED);
    return bytes && Buffer.from(bytes).toString();
  }

  /** Keeps a text that tells how the records of the edition in this folder were verified. */
  async noteVerified(text: string): Promise<void> {
    if ((await this.verifiedWith()) !== text) await this.#write(VERIFIED, Buffer.from(text));
  }

  /** Keeps two manifests of one publisher that belong to different histories. Does nothing if two are kept already. */
  async keepProof(first: Uint8Array, second: Uint8Array): Promise<void> {
    if ((await this.proof()) !== undefined) return;
    await this.#write(`${PROOF}/first`, first);
    await this.#write(`${PROOF}/second`, second);
  }

  /** Returns the folder with two manifests of different histories. Undefined if there is none. */
  async proof(): Promise<string | undefined> {
    const both = await Promise.all([this.read(`${PROOF}/first`), this.read(`${PROOF}/second`)]);
    return both.includes(undefined) ? undefined : join(this.dir, PROOF);
  }

  /** Opens a file to be read in parts. Undefined if there is none. The caller closes it. */
  async open(name: string): Promise<FileHandle | undefined> {
    try {
      return await open(join(this.dir, name));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, join(this.dir, name));
    }
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    try {
      return await readFile(join(this.dir, name));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, join(this.dir, name));
    }
  }

  /** Notes once a day that a file is used. */
  async #noteUse(name: string): Promise<void> {
    const path = join(this.dir, name);
    const found = await stat(path).catch(() => undefined);
    const now = new Date();
    if (found !== undefined && now.getTime() - found.mtimeMs > NOTE_USE_MS)
      await utimes(path, now, now).catch(() => undefined); // another user's folder
  }

  async #write(name: string, bytes: Uint8Array, replaces?: (there: Uint8Array) => boolean): Promise<void> {
    const path = join(this.dir, name);
    const temporary = temporaryBeside(path);
    try {
      await makeFolder(dirname(path));
      await writeFile(temporary, bytes);
      const there = replaces === undefined ? undefined : await this.read(name);
      if (there === undefined || replaces?.(there) === true) await rename(temporary, path);
      else await rm(temporary, { force: true });
    } catch (error) {
      await rm(temporary, { force: true });
      throw storeError(error, path);
    }
  }
}
