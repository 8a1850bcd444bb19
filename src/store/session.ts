import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from './state-folder.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { CLAIMS, type SessionKind } from './claims.ts';
import { ownName, stateOfOwner } from '../disk/owner.ts';
import { storeError, systemCode } from '../disk/store-error.ts';
import type { FileStore } from './file-store.ts';

/** Another heir was faster, or another user's process left it. */
const NOT_OURS: ReadonlySet<string> = new Set(['ENOENT', 'EACCES', 'EPERM']);

/**
 * The folder in which one process keeps its partial files: `narswarm/partial/<owner>/`.
 *
 * A folder a process means that two fetches never write to one file, without locks that a crash leaves behind.
 * What a dead process left is taken over by renaming its folder's files: the rename decides between two heirs.
 */
export class PartialSession implements AsyncDisposable {
  readonly dir: string;
  /** What this session has claimed: see claims.ts. */
  readonly claims = new Set<string>();
  /** Paths of partial files that lie in the folder: those that were taken over, and who leaves another adds it. */
  readonly leftovers = new Set<string>();

  private constructor(dir: string) {
    this.dir = dir;
  }

  /**
   * Makes this process's folder and takes over the partial files of processes that are gone.
   *
   * @param kind what the folder is below, so that nobody inherits what he cannot go on with
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

  /** Path for the partial file of that name in this session. */
  path(name: string): string {
    return join(this.dir, name);
  }

  /**
   * Removes the folder if nothing is left in it; partial files stay for the next run. What was claimed is free again. Never
   * fails: what cannot be removed now goes with the next run that can.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path(CLAIMS), { force: true }).catch(() => undefined);
    const left = await readdir(this.dir).catch(() => ['?']);
    if (left.length === 0) await rm(this.dir, { recursive: true, force: true }).catch(() => undefined);
  }

  async #inherit(from: string): Promise<void> {
    const names = await readdir(from).catch(() => []);
    for (const name of names) {
      if (name === CLAIMS) continue; // a process that is gone needs nothing any more
      const path = this.path(name);
      try {
        // two that fetched the same NAR at once: the larger part is gone on with
        if (this.leftovers.has(path) && (await stat(join(from, name))).size <= (await stat(path)).size) continue;
        await rename(join(from, name), path);
        this.leftovers.add(path);
      } catch (error) {
        if (!NOT_OURS.has(systemCode(error) ?? '')) throw error;
      }
    }
    await rm(from, { recursive: true, force: true }).catch(() => undefined);
  }
}
