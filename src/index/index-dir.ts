import { randomUUID } from 'node:crypto';
import { open, readFile, readdir, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { storeError, systemCode } from '../disk/store-error.ts';
import type { Index } from './build.ts';
import { mapFolder, type PublisherAddress } from './address.ts';
import { MANIFEST_NAME } from './index-torrent.ts';
import { shardFileName } from './shard.ts';

/** Marks the hash map of a publisher that is no longer followed. */
const UNFOLLOWED = 'unfollowed';

/** Folder of two manifests of different histories. */
const PROOF = 'two-histories';

/** Returns the folder in which the hash map of a publisher is kept. @param dir the folder of all hash maps */
export function indexDirOf(dir: string, address: PublisherAddress): IndexDir {
  return new IndexDir(join(dir, mapFolder(address)));
}

/**
 * A hash map in a folder: `manifest` and `shards/<prefix>.zst`, named as in the torrent and on a mirror. Every reader
 * checks shards against the manifest, so a folder between two editions is harmless.
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

  readShard(prefix: string): Promise<Uint8Array | undefined> {
    return this.read(shardFileName(prefix));
  }

  /** @param replaces called just before the replacement with the present manifest. Returns true to replace it */
  async writeManifest(bytes: Uint8Array, replaces: (there: Uint8Array) => boolean = () => true): Promise<void> {
    await this.#write(MANIFEST_NAME, bytes, replaces);
  }

  async writeShard(prefix: string, bytes: Uint8Array): Promise<void> {
    await this.#write(shardFileName(prefix), bytes);
  }

  /**
   * Writes a whole edition, the manifest last, then removes the shards of earlier editions. Does not write unchanged
   * files.
   */
  async write(index: Index): Promise<void> {
    for (const [prefix, bytes] of index.shards) {
      const there = await this.readShard(prefix);
      if (there === undefined || Buffer.compare(there, bytes) !== 0) await this.writeShard(prefix, bytes);
    }
    await this.writeManifest(index.manifest);
    const kept = new Set([...index.shards.keys()].map((prefix) => shardFileName(prefix).slice('shards/'.length)));
    for (const name of await readdir(join(this.dir, 'shards')).catch(() => [])) {
      if (!kept.has(name)) await rm(join(this.dir, 'shards', name), { force: true });
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

  async #write(name: string, bytes: Uint8Array, replaces?: (there: Uint8Array) => boolean): Promise<void> {
    const path = join(this.dir, name);
    const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`;
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
