import { link, rename, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { inState } from './state-folder.ts';
import { makeFolderBelow } from '../disk/make-folder.ts';
import type { FileStore } from './file-store.ts';
import { remove } from '../disk/remove.ts';
import { storeError, systemCode } from '../disk/store-error.ts';

/**
 * Moves a damaged file out of the way, to `narswarm/quarantine/`: from then on it is neither served nor counted on, and
 * whoever wants to know what happened can look at it.
 *
 * @param seen size and time of last change, in whole milliseconds, of the file that was found to be damaged
 * @returns where it is, or undefined where another file has taken its place meanwhile: that one stays
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function quarantine(
  store: FileStore,
  path: string,
  seen: { readonly sizeBytes: number; readonly mtimeMs: number },
): Promise<string | undefined> {
  const folder = quarantineFolder(store);
  const target = join(folder, basename(path));
  try {
    await makeFolderBelow(store.dir, folder);
    await rename(path, target);
    const moved = await stat(target);
    if (moved.size === seen.sizeBytes && Math.floor(moved.mtimeMs) === seen.mtimeMs) return target;
    await link(target, path).catch((error: unknown) => {
      if (systemCode(error) !== 'EEXIST') throw error; // a third one came
    });
    await remove(target);
    return undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined; // a collector was faster
    throw storeError(error, path);
  }
}

/** Whether a file of the store was moved away as damaged, and lies there still. */
export async function isInQuarantine(store: FileStore, path: string): Promise<boolean> {
  return (await quarantinedAtMs(store, path)) !== undefined;
}

/** When a file of the store was moved away as damaged, milliseconds since 1970; undefined where it was not. */
export async function quarantinedAtMs(store: FileStore, path: string): Promise<number | undefined> {
  const found = await stat(join(quarantineFolder(store), basename(path))).catch(() => undefined);
  return found?.ctimeMs; // a rename changes it
}

/** Folder of the damaged files, each under the name that it had. */
export function quarantineFolder(store: FileStore): string {
  return inState(store, 'quarantine');
}
