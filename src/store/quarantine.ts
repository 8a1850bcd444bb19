import { link, rename, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { inState } from './state-folder.ts';
import { makeFolderBelow } from '../disk/make-folder.ts';
import type { FileStore } from './file-store.ts';
import { remove } from '../disk/remove.ts';
import { storeError, systemCode } from '../disk/store-error.ts';

/**
 * Moves a damaged file to `narswarm/quarantine/`. It is no longer served or relied on, but people can inspect it.
 *
 * @param seen size and time of last change (in whole milliseconds) of the file that was found damaged
 * @returns its new path. Undefined if another file has replaced it meanwhile, which stays
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
      if (systemCode(error) !== 'EEXIST') throw error; // a third file is in the way
    });
    await remove(target);
    return undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined; // a collector was faster
    throw storeError(error, path);
  }
}

/** Returns true if a file of the store was quarantined and is still there. */
export async function isInQuarantine(store: FileStore, path: string): Promise<boolean> {
  return (await quarantinedAtMs(store, path)) !== undefined;
}

/** Returns when a file of the store was quarantined, in milliseconds since 1970. Undefined if it was not. */
export async function quarantinedAtMs(store: FileStore, path: string): Promise<number | undefined> {
  const found = await stat(join(quarantineFolder(store), basename(path))).catch(() => undefined);
  return found?.ctimeMs; // a rename changes it
}

/** Returns the folder of the damaged files. Each keeps its name. */
export function quarantineFolder(store: FileStore): string {
  return inState(store, 'quarantine');
}
