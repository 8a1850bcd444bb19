import { statSync, type Stats } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { HashThread } from '../bytes/hash-thread.ts';
import { inState } from './state-folder.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { CLAIMS, type SessionKind } from './claims.ts';
import { endedName, ownName, stateOfOwner } from '../disk/owner.ts';
import { storeError, systemCode } from '../disk/store-error.ts';
import type { FileStore } from './file-store.ts';
import { SavedPieces } from './partial-bytes/saved-pieces.ts';

/** Age at which a partial file that nobody continues is removed. */
export const KEEP_PARTIAL_MS = 7 * 86_400_000;
/** The unit of `Stats.blocks`. */
const BLOCK_BYTES = 512;
/** Error codes for files that another process has already taken over, or that another user owns. */
const NOT_OURS: ReadonlySet<string> = new Set(['ENOENT', 'EACCES', 'EPERM']);

/**
 * The folder of one process's partial files: `narswarm/partial/<owner>/`.
 *
 * One folder per process means that two fetches never write to one file, without locks that a crash could leave behind.
 * Files of an ended process are taken over by renaming them: the rename decides between two heirs.
 */
export class PartialSession implements AsyncDisposable {
  readonly dir: string;
  /** The claims of this session: see claims.ts. */
  readonly claims = new Set<string>();
  /** Paths of partial files in the folder: inherited ones, and those left by closed NARs. */
  readonly leftovers = new Set<string>();
  /** Hashes and writes arriving bytes. */
  readonly hashThread = new HashThread();

  private constructor(dir: string) {
    this.dir = dir;
  }

  /**
   * Makes this process's folder and takes over the partial files of ended processes.
   *
   * @param kind parent of the folder, so that a session inherits only files that it can continue
   */
  static async open(store: FileStore, kind: SessionKind = 'partial'): Promise<PartialSession> {
    const parent = inState(store, kind);
    const session = new PartialSession(join(parent, await ownName()));
    try {
      await makeFolder(session.dir);
      for (const name of await readdir(parent)) {
        if ((await stateOfOwner(name)) === 'gone') await session.#inherit(join(parent, name));
      }
    } catch (error) {
      throw storeError(error, session.dir);
    }
    return session;
  }

  /** Returns the path for a partial file of this name in this session. */
  path(name: string): string {
    return `${this.dir}/${name}`;
  }

  /**
   * Returns the bytes of a NAR that earlier runs left in a partial file. Asks only for the size of the file: some of the
   * bytes may be found wrong later.
   */
  leftoverBytes(name: string, sizeBytes: number): number {
    const path = this.path(name);
    if (!this.leftovers.has(path)) return 0;
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return 0;
    const heldBytes = SavedPieces.exist(path) ? found.blocks * BLOCK_BYTES : found.size; // pieces leave gaps
    return Math.min(heldBytes, found.size, sizeBytes);
  }

  /**
   * Removes the folder if it is empty. Otherwise leaves the partial files to the next session, in this process or
   * another. Releases all claims. Never fails: a later run removes the rest.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.hashThread[Symbol.asyncDispose]();
    await rm(this.path(CLAIMS), { force: true }).catch(() => undefined);
    const left = await readdir(this.dir).catch(() => ['?']);
    if (left.length === 0) await rm(this.dir, { recursive: true, force: true }).catch(() => undefined);
    else await rename(this.dir, join(dirname(this.dir), endedName(basename(this.dir)))).catch(() => undefined);
  }

  async #inherit(from: string): Promise<void> {
    const names = await readdir(from).catch(() => []);
    for (const name of names) {
      if (name === CLAIMS) continue; // an ended process claims nothing
      if (SavedPieces.isName(name)) continue; // files of hashes follow their partial file
      const source = join(from, name);
      const path = this.path(name);
      try {
        const found = await stat(source);
        if (Date.now() - found.mtimeMs > KEEP_PARTIAL_MS) continue; // removed with its folder
        // If two processes fetched the same NAR, the larger part is kept.
        if (this.leftovers.has(path) && !isLarger(found, await stat(path))) continue;
        await SavedPieces.copy(source, path); // before the file, so that a crash in between loses neither
        await rename(source, path);
        this.leftovers.add(path);
      } catch (error) {
        if (!NOT_OURS.has(systemCode(error) ?? '')) throw error;
        if (!this.leftovers.has(path)) await SavedPieces.drop(path); // another process has taken the file
      }
    }
    await rm(from, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** Returns true if one partial file holds more than another. Counts blocks on the disk, since gaps take none. */
function isLarger(one: Stats, other: Stats): boolean {
  return one.blocks === other.blocks ? one.size > other.size : one.blocks > other.blocks;
}
