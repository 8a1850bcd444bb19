import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { open, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { stateOfOwner } from '../disk/owner.ts';
import { storeError } from '../disk/store-error.ts';
import { formatCacheInfo } from '../nix/cache-info.ts';
import { formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { FolderUrl } from '../nix/programs/folder-url.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { FileStore } from './file-store.ts';
import { PartialSession } from './session.ts';
import { inState } from './state-folder.ts';

const runProgram = promisify(execFile);

/**
 * A binary cache from which Nix imports while other NARs are arriving: `narswarm/import/<owner>/`. It has the narinfos of
 * NARs that are in the file store, before the store itself has them: that takes a sync of the disk. Nothing else reads it.
 */
export class ImportFolder implements AsyncDisposable {
  readonly #session: PartialSession;
  readonly #url: FolderUrl;

  private constructor(session: PartialSession, url: FolderUrl) {
    this.#session = session;
    this.#url = url;
  }

  /** Makes the folder, and removes those of ended processes. @throws STORE_FULL, STORE_UNWRITABLE */
  static async open(store: FileStore): Promise<ImportFolder> {
    const session = await PartialSession.open(store, 'import');
    const folder = new ImportFolder(session, await FolderUrl.open(session.dir));
    try {
      await folder.#clear();
      await symlink(join(store.dir, 'nar'), join(folder.dir, 'nar'));
      const info = formatCacheInfo({ storeDir: store.storeDir, wantMassQuery: true, priority: 0 });
      await writeFile(join(folder.dir, 'nix-cache-info'), info);
      return folder;
    } catch (error) {
      await folder[Symbol.asyncDispose]();
      throw storeError(error, folder.dir);
    }
  }

  get dir(): string {
    return this.#session.dir;
  }

  /** Its URL, fit for a list of substituters. */
  get url(): string {
    return this.#url.href;
  }

  /** Lets Nix take a NAR. @param info with the store's name of the NAR */
  async add(info: NarInfo): Promise<void> {
    await writeFile(this.#narInfoPath(info), formatNarInfo(info));
  }

  /** Lets Nix read a NAR from a FIFO of {@link makeFifos}. */
  async addArriving(info: NarInfo, fifo: string): Promise<void> {
    await this.add({ ...info, url: basename(fifo) });
  }

  /** Makes FIFOs. @returns their paths @throws if that is not possible */
  async makeFifos(count: number): Promise<string[]> {
    const paths = Array.from({ length: count }, (_, index) => join(this.dir, `arriving-${index}`));
    await runProgram('mkfifo', ['-m', '600', ...paths]);
    return paths;
  }

  async remove(info: Pick<NarInfo, 'storePath'>): Promise<void> {
    await rm(this.#narInfoPath(info), { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clear().catch(() => undefined); // the next import removes it
    await this.#url[Symbol.asyncDispose]();
    await this.#session[Symbol.asyncDispose]();
  }

  #narInfoPath({ storePath }: Pick<NarInfo, 'storePath'>): string {
    return join(this.dir, `${storeHashOf(storePath)}.narinfo`);
  }

  async #clear(): Promise<void> {
    for (const entry of await readdir(this.dir, { withFileTypes: true })) {
      const path = join(this.dir, entry.name);
      if (entry.isFIFO()) await removeFifo(path);
      else await rm(path, { recursive: true, force: true });
    }
  }
}

/** Removes a FIFO. Readers that wait for a writer get its end: a Nix may do so since narswarm was killed. */
async function removeFifo(path: string): Promise<void> {
  await using _writer = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  await rm(path);
}

/**
 * Returns true if a process ended in the middle of an import. Then the store may have NARs of imported paths whose
 * narinfos were not written yet.
 */
export async function hasInterruptedImport(store: Pick<FileStore, 'stateDir'>): Promise<boolean> {
  for (const name of await readdir(inState(store, 'import')).catch(() => []))
    if ((await stateOfOwner(name)) === 'gone') return true;
  return false;
}
