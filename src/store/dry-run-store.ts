import { cp, lstat, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { STATE_FOLDER, statePlaces } from './state-folder.ts';
import { FileStore } from './file-store.ts';
import { storeError } from '../disk/store-error.ts';

/**
 * A file store for a dry run, which changes nothing and makes no store. Its state is in a temporary folder that is
 * removed afterwards.
 */
export class DryRunStore implements AsyncDisposable {
  readonly store: FileStore;

  private constructor(store: FileStore) {
    this.store = store;
  }

  /**
   * @throws STORE_CORRUPT, STORE_UNWRITABLE if it cannot be read; STORE_FULL if the disk of the temporary folder is
   *   full
   */
  static async open(dir: string): Promise<DryRunStore> {
    const stateDir = await mkdtemp(join(tmpdir(), 'narswarm-dry-run-'));
    try {
      const own = join(resolve(dir), STATE_FOLDER);
      for (const name of statePlaces('copied')) {
        if (await isThere(join(own, name))) await cp(join(own, name), join(stateDir, name), { recursive: true });
      }
      for (const name of statePlaces('linked')) await linkFiles(join(own, name), join(stateDir, name));
      for (const name of statePlaces('read'))
        if (await isThere(join(own, name))) await symlink(join(own, name), join(stateDir, name));
      return new DryRunStore(await FileStore.open(dir, { create: false, stateDir }));
    } catch (error) {
      await rm(stateDir, { recursive: true, force: true });
      throw storeError(error, dir);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.store.stateDir, { recursive: true, force: true });
  }
}

/** Makes a folder like `from`, with links to its files. Files that vanish meanwhile are left out. */
async function linkFiles(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true }).catch(() => [])) {
    const folder = join(to, relative(from, entry.parentPath));
    await mkdir(entry.isDirectory() ? join(folder, entry.name) : folder, { recursive: true });
    if (entry.isFile()) await symlink(join(entry.parentPath, entry.name), join(folder, entry.name));
  }
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
