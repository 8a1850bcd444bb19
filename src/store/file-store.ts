import { statSync } from 'node:fs';
import { open, readFile, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { STATE_FOLDER } from './state-folder.ts';
import { SmallReader } from '../disk/read-small.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { formatCacheInfo, parseCacheInfo } from '../nix/cache-info.ts';
import { formatNarInfo, isSafeNarUrl, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { nixStoreDir, parseStoreHash, storeHashOf } from '../nix/store-path.ts';
import { isTooManyFiles } from '../disk/too-many-files.ts';
import { storeError, systemCode } from '../disk/store-error.ts';
import { moveFile, replaceFile } from '../disk/replace.ts';

/** File name of a narinfo in a store; the first group is the store hash. */
export const NARINFO_NAME = /^([0-9a-df-np-sv-z]{32})\.narinfo$/;
/** Priority of a cache on the local disk. Lower is asked first; cache.nixos.org has 40. */
const PRIORITY = 30;

/** Writes narinfos of NARs that are on the disk. Write each after the narinfos of its references. */
export interface NarInfoWriter {
  /** Writes a narinfo, whole or not at all. */
  readonly write: (info: NarInfo) => Promise<void>;
}

/**
 * A Nix binary cache directory: `nix-cache-info`, `<storehash>.narinfo`, `nar/<filehash>.nar.<ext>`. Beside them,
 * `narswarm/` has our own state (catalogue, partial files).
 *
 * Files appear by rename: a reader sees a whole file or none. Every failed write throws a NarswarmError with STORE_FULL
 * or STORE_UNWRITABLE.
 */
export class FileStore {
  /** Absolute path of the cache directory. */
  readonly dir: string;
  /** The Nix store directory of the paths in this cache, usually `/nix/store`. */
  readonly storeDir: string;

  /** Folder of narswarm's own state: `narswarm` in the cache. */
  readonly stateDir: string;
  /** Reads its narinfos. */
  readonly reader = new SmallReader();

  private constructor(dir: string, storeDir: string, stateDir = join(dir, STATE_FOLDER)) {
    this.dir = dir;
    this.storeDir = storeDir;
    this.stateDir = stateDir;
  }

  /**
   * Opens the cache directory. With `create`, makes the missing parts. These include the folders that `nix copy --from`
   * needs even in a read-only cache, and would otherwise make itself.
   *
   * @param options.stateDir another folder for the state. The cache need not exist then, and is not made
   * @throws STORE_UNWRITABLE, STORE_FULL; STORE_CORRUPT if nix-cache-info is malformed or is for another store
   */
  static async open(
    dir: string,
    options: { create: boolean; storeDir?: string; stateDir?: string },
  ): Promise<FileStore> {
    const root = resolve(dir);
    const wanted = options.storeDir ?? nixStoreDir(process.env);
    const { stateDir } = options;
    const infoFile = join(root, 'nix-cache-info');
    try {
      if (options.create) {
        for (const name of ['nar', 'log', 'realisations', STATE_FOLDER]) await makeFolder(join(root, name));
      }
      const text = await readFile(infoFile, 'utf8').catch((error: unknown) => {
        if (systemCode(error) === 'ENOENT') return undefined;
        throw error;
      });
      if (text !== undefined) return new FileStore(root, storeDirIn(text, infoFile, options.storeDir), stateDir);
      if (stateDir !== undefined) return new FileStore(root, wanted, stateDir);
      if (!options.create) {
        throw new NarswarmError(
          'STORE_CORRUPT',
          `${root} is not a binary cache (it has no nix-cache-info): name another folder, or fill it with narswarm fetch, narswarm add or nix copy --to file://${root}`,
          { facts: { path: root } },
        );
      }
      const store = new FileStore(root, wanted);
      await replaceFile(infoFile, formatCacheInfo({ storeDir: wanted, wantMassQuery: true, priority: PRIORITY }));
      return store;
    } catch (error) {
      throw storeError(error, root);
    }
  }

  narInfoPath(hash: StoreHash): string {
    return `${this.dir}/${hash}.narinfo`;
  }

  /** Returns the path of a narinfo's NAR in this store. @throws NARINFO_INVALID if its URL leads out of the store */
  narPath(info: Pick<NarInfo, 'url' | 'storePath'>): string {
    if (!isSafeNarUrl(info.url)) {
      throw new NarswarmError(
        'NARINFO_INVALID',
        `the narinfo of ${info.storePath} has an unsafe URL: ${JSON.stringify(info.url)}`,
        {
          facts: { path: info.storePath },
        },
      );
    }
    return `${this.dir}/${info.url}`; // at the start of a run, node's join takes 4 µs
  }

  /** Returns the store's own URL of a NAR: `nar/<filehash>.nar.<ext>`, relative. */
  static narUrl(fileHash: FileHash, extension: string): string {
    return `nar/${fileHash}.nar${extension === '' ? '' : `.${extension}`}`;
  }

  /**
   * Reads the narinfo of a store hash. Undefined if there is none. The caller must check its signature.
   * @throws STORE_CORRUPT if the file cannot be parsed
   */
  async readNarInfo(hash: StoreHash): Promise<NarInfo | undefined> {
    const path = this.narInfoPath(hash);
    try {
      return parseNarInfo(await this.reader.read(path));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      if (isNarswarmError(error, 'NARINFO_INVALID')) {
        throw new NarswarmError(
          'STORE_CORRUPT',
          `${path} is damaged (${error.message}): remove it and run the same command again`,
          {
            cause: error,
            facts: { path },
          },
        );
      }
      throw storeError(error, path);
    }
  }

  /** Reads the narinfo of a path. A damaged file counts as absent, since it will be replaced. */
  async readNarInfoOf(path: StorePath): Promise<NarInfo | undefined> {
    return this.readNarInfo(storeHashOf(path)).catch((error: unknown) => {
      if (isNarswarmError(error, 'STORE_CORRUPT')) return undefined;
      throw error;
    });
  }

  /** Returns true if the narinfo of this path is there, with the bytes that would be written for it. */
  async holdsNarInfo(info: NarInfo): Promise<boolean> {
    return (await this.readNarInfoText(storeHashOf(info.storePath))) === formatNarInfo(info);
  }

  /** Reads the text of the narinfo of a store hash. Undefined if it cannot be read. */
  async readNarInfoText(hash: StoreHash): Promise<string | undefined> {
    return this.reader.read(this.narInfoPath(hash)).catch(() => undefined);
  }

  /**
   * Writes the narinfo of a NAR that the store has held before, whole or not at all. For a new NAR, {@link sync} gives
   * a writer.
   */
  async rewriteNarInfo(info: NarInfo): Promise<void> {
    await replaceFile(this.narInfoPath(storeHashOf(info.storePath)), formatNarInfo(info));
  }

  /** Returns the size in bytes of a narinfo's NAR. Undefined if it is not there. */
  async narSizeOf(info: Pick<NarInfo, 'url' | 'storePath'>): Promise<number | undefined> {
    return (await this.statNar(info))?.sizeBytes;
  }

  /**
   * Returns the size and the time of last change of a NAR file. Undefined if it is not there. Works synchronously: the
   * system has the answer in memory, and asking another thread takes ten times as long.
   */
  async statNar(info: Pick<NarInfo, 'url' | 'storePath'>): Promise<{ sizeBytes: number; mtimeMs: number } | undefined> {
    return this.statNarNow(info);
  }

  /** As {@link statNar}, but throws at once. */
  statNarNow(info: Pick<NarInfo, 'url' | 'storePath'>): { sizeBytes: number; mtimeMs: number } | undefined {
    try {
      const found = statSync(this.narPath(info), { throwIfNoEntry: false });
      return found?.isFile() === true ? { sizeBytes: found.size, mtimeMs: Math.floor(found.mtimeMs) } : undefined;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, this.narPath(info));
    }
  }

  /** Moves a NAR file to its place. Check its contents before. @throws STORE_FULL, STORE_UNWRITABLE */
  async placeNar(file: string, info: Pick<NarInfo, 'url' | 'storePath'>): Promise<void> {
    await moveFile(file, this.narPath(info));
  }

  /** Lists the store hashes of all narinfos in the cache, in no order. */
  async listStoreHashes(): Promise<StoreHash[]> {
    const names = await readdir(this.dir).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return [];
      throw storeError(error, this.dir);
    });
    return names.flatMap((name) => {
      const match = NARINFO_NAME.exec(name);
      return match?.[1] === undefined ? [] : [parseStoreHash(match[1])];
    });
  }

  /**
   * Waits until all writes so far are on the disk. After a power cut, no narinfo written later is there without its
   * NAR. One syncfs(2) of the whole file system is faster than an fsync for each NAR.
   *
   * @returns the writer of the narinfos of these NARs
   * @throws STORE_UNWRITABLE if the disk failed to store them
   */
  async sync(): Promise<NarInfoWriter> {
    try {
      await promisify(execFile)('sync', ['-f', this.dir]);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw notSynced(this.dir, error);
      await this.#syncFolder(); // no coreutils
    }
    return { write: (info) => this.rewriteNarInfo(info) };
  }

  /** Waits for the folder's entries only. */
  async #syncFolder(): Promise<void> {
    try {
      await using handle = await open(this.dir, 'r');
      await handle.sync();
    } catch (error) {
      throw storeError(error, this.dir);
    }
  }
}

/** Makes the error of a failed sync(1). Only its message tells the reason: its exit status is always 1. */
function notSynced(dir: string, error: unknown): NarswarmError {
  if (isTooManyFiles(error)) return storeError(error, dir);
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  return new NarswarmError(
    'STORE_UNWRITABLE',
    `the files written to ${dir} may not be on its disk (${said === '' ? String(error) : said}): check the disk, then run the same command again`,
    { cause: error, facts: { path: dir } },
  );
}

function storeDirIn(text: string, file: string, wanted: string | undefined): string {
  let found: string;
  try {
    found = parseCacheInfo(text).storeDir;
  } catch (error) {
    throw new NarswarmError('STORE_CORRUPT', `${file} is damaged: ${(error as Error).message}`, {
      cause: error,
      facts: { path: file },
    });
  }
  if (wanted !== undefined && found !== wanted) {
    throw new NarswarmError(
      'STORE_CORRUPT',
      `${file} is for the store ${found}, not for ${wanted}: choose another --store`,
      {
        facts: { path: file, storeDir: found },
      },
    );
  }
  return found;
}
