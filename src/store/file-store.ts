import { open, readFile, readdir, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { STATE_FOLDER } from './state-folder.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { FileHash, StoreHash, StorePath } from '../nix/brands.ts';
import { formatCacheInfo, parseCacheInfo } from '../nix/cache-info.ts';
import { formatNarInfo, isSafeNarUrl, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { nixStoreDir, parseStoreHash, storeHashOf } from '../nix/store-path.ts';
import { isTooManyFiles } from '../disk/too-many-files.ts';
import { storeError, systemCode } from '../disk/store-error.ts';

/** Name of a narinfo in a store; its first group is the store hash. */
export const NARINFO_NAME = /^([0-9a-df-np-sv-z]{32})\.narinfo$/;
/** What Nix says of a cache that is as near as a disk; lower is asked first, cache.nixos.org has 40. */
const PRIORITY = 30;

/**
 * A Nix binary cache directory: `nix-cache-info`, `<storehash>.narinfo`, `nar/<filehash>.nar.<ext>`, and
 * beside them `narswarm/` with what is ours alone (catalogue, partial files).
 *
 * Files appear by rename: a reader sees a whole file or none. Every failure to write is a NarswarmError with
 * STORE_FULL or STORE_UNWRITABLE.
 */
export class FileStore {
  /** Absolute path of the cache directory. */
  readonly dir: string;
  /** The Nix store directory that the paths in this cache are for, mostly `/nix/store`. */
  readonly storeDir: string;

  /** Folder of narswarm's own state: `narswarm` within the cache. */
  readonly stateDir: string;

  private constructor(dir: string, storeDir: string, stateDir = join(dir, STATE_FOLDER)) {
    this.dir = dir;
    this.storeDir = storeDir;
    this.stateDir = stateDir;
  }

  /**
   * Opens the cache directory, making what is missing (`create`), also the folders that `nix copy --from`
   * would otherwise make itself and that it needs even of a read-only cache.
   *
   * @param options.stateDir another folder for the state, of which the cache is not made either: it may be none yet
   * @throws STORE_UNWRITABLE, STORE_FULL; STORE_CORRUPT where nix-cache-info is not one or is for another store
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
        throw new NarswarmError('STORE_CORRUPT', `${root} is not a binary cache: it has no nix-cache-info`, {
          facts: { path: root },
        });
      }
      const store = new FileStore(root, wanted);
      await store.replace(infoFile, formatCacheInfo({ storeDir: wanted, wantMassQuery: true, priority: PRIORITY }));
      return store;
    } catch (error) {
      throw storeError(error, root);
    }
  }

  narInfoPath(hash: StoreHash): string {
    return join(this.dir, `${hash}.narinfo`);
  }

  /** Path of the NAR that a narinfo of this store names. @throws NARINFO_INVALID where its URL leads out of the store */
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
    return join(this.dir, info.url);
  }

  /** The store's own name for a NAR: `nar/<filehash>.nar.<ext>`, relative, as the URL field has it. */
  static narUrl(fileHash: FileHash, extension: string): string {
    return `nar/${fileHash}.nar${extension === '' ? '' : `.${extension}`}`;
  }

  /**
   * The narinfo of a store hash, or undefined where there is none. Its signature is the caller's to check.
   * @throws STORE_CORRUPT where the file cannot be parsed
   */
  async readNarInfo(hash: StoreHash): Promise<NarInfo | undefined> {
    const path = this.narInfoPath(hash);
    try {
      return parseNarInfo(await readFile(path, 'utf8'));
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

  /** As {@link readNarInfo}, by path; a damaged file counts as absent, since it is about to be replaced. */
  async readNarInfoOf(path: StorePath): Promise<NarInfo | undefined> {
    return this.readNarInfo(storeHashOf(path)).catch((error: unknown) => {
      if (isNarswarmError(error, 'STORE_CORRUPT')) return undefined;
      throw error;
    });
  }

  /** Whether the narinfo of this path is there, and byte for byte what {@link writeNarInfo} would write. */
  async holdsNarInfo(info: NarInfo): Promise<boolean> {
    return (await this.readNarInfoText(storeHashOf(info.storePath))) === formatNarInfo(info);
  }

  /** The narinfo of a store hash as it is written, or undefined if none can be read. */
  async readNarInfoText(hash: StoreHash): Promise<string | undefined> {
    return readFile(this.narInfoPath(hash), 'utf8').catch(() => undefined);
  }

  /** Writes a narinfo, whole or not at all. The NAR and the narinfos it refers to come first: the caller's duty. */
  async writeNarInfo(info: NarInfo): Promise<void> {
    await this.replace(this.narInfoPath(storeHashOf(info.storePath)), formatNarInfo(info));
  }

  /** Size in bytes of the NAR that a narinfo names, or undefined where it is not there. */
  async narSizeOf(info: Pick<NarInfo, 'url' | 'storePath'>): Promise<number | undefined> {
    return (await this.statNar(info))?.sizeBytes;
  }

  /** Size and time of last change of a NAR file, or undefined where it is not there. */
  async statNar(info: Pick<NarInfo, 'url' | 'storePath'>): Promise<{ sizeBytes: number; mtimeMs: number } | undefined> {
    try {
      const found = await stat(this.narPath(info));
      return found.isFile() ? { sizeBytes: found.size, mtimeMs: Math.floor(found.mtimeMs) } : undefined;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, this.narPath(info));
    }
  }

  /** Store hashes of every narinfo in the cache, in no order. */
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
   * Replaces a file of the store by rename.
   *
   * @param options.mode permissions of the new file, such as 0o600 for what is nobody else's; default: the umask's
   */
  async replace(path: string, content: string | Uint8Array, options: { mode?: number } = {}): Promise<void> {
    const temporary = `${path}.${randomUUID().slice(0, 8)}.tmp`;
    try {
      await writeFile(temporary, content, options);
      await rename(temporary, path);
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw storeError(error, path);
    }
  }

  /**
   * Waits until what was written so far is on the disk, so that a narinfo written after this never outlives its
   * NAR in a power cut. One syncfs(2) of the whole file system costs less than an fsync a NAR.
   *
   * @throws STORE_UNWRITABLE if the disk could not take it
   */
  async sync(): Promise<void> {
    try {
      await promisify(execFile)('sync', ['-f', this.dir]);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return this.#syncFolder(); // no coreutils
      throw notSynced(this.dir, error);
    }
  }

  /** Waits for the folder's entries at least. */
  async #syncFolder(): Promise<void> {
    try {
      await using handle = await open(this.dir, 'r');
      await handle.sync();
    } catch (error) {
      throw storeError(error, this.dir);
    }
  }
}

/** Only the message of sync(1) tells what happened: its exit status is 1 in any case. */
function notSynced(dir: string, error: unknown): NarswarmError {
  if (isTooManyFiles(error)) return storeError(error, dir);
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  return new NarswarmError(
    'STORE_UNWRITABLE',
    `what was written to ${dir} may not be on its disk (${said === '' ? String(error) : said}): check the disk, then run the same command again`,
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
