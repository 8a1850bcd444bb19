import { mkdir, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';

/**
 * Makes a folder and its parents; one that is there is left as it is. Node's own `recursive` never returns where a parent
 * cannot be made for ENOENT (below /proc), and takes a read-only file system for a folder that is missing.
 *
 * @param mode of each folder that is made
 * @returns the outermost folder that was made; undefined if none was
 * @throws what the system says: EROFS, EACCES, ENOENT, ENOTDIR, EEXIST where a file is in the way
 */
export async function makeFolder(path: string, mode = 0o777): Promise<string | undefined> {
  try {
    await mkdir(path, { mode });
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' || dirname(path) === path) return unlessFolder(path, error);
    const parent = await makeFolder(dirname(path), mode);
    const made = await mkdir(path, { mode }).then(
      () => path,
      (again: unknown) => unlessFolder(path, again),
    );
    return parent ?? made;
  }
}

/**
 * Makes a folder below one that is there: where that is gone, since a disk was unmounted, nothing is made in its place.
 *
 * @throws what the system says, as {@link makeFolder} does
 */
export async function makeFolderBelow(root: string, path: string): Promise<void> {
  let folder = root;
  for (const name of relative(root, path).split(sep)) {
    folder = join(folder, name);
    await mkdir(folder).catch((error: unknown) => unlessFolder(folder, error));
  }
}

/** Somebody else may have made it. */
async function unlessFolder(path: string, error: unknown): Promise<undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) throw error;
}
