import { mkdir, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';

/**
 * Makes a folder and its parents. Leaves an existing one alone. (Node's own `recursive` never returns if a parent
 * cannot be made for ENOENT (below /proc), and mistakes a read-only file system for a missing folder.)
 *
 * @param mode of each new folder
 * @returns the outermost new folder; undefined if none was made
 * @throws the system's error: EROFS, EACCES, ENOENT, ENOTDIR, EEXIST if a file is in the way
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
 * Makes a folder inside an existing one. Makes nothing if that one is missing, for example because a disk was
 * unmounted.
 *
 * @throws the system's error, as {@link makeFolder} does
 */
export async function makeFolderBelow(root: string, path: string): Promise<void> {
  let folder = root;
  for (const name of relative(root, path).split(sep)) {
    folder = join(folder, name);
    await mkdir(folder).catch((error: unknown) => unlessFolder(folder, error));
  }
}

/** Ignores the error if somebody else has made the folder. */
async function unlessFolder(path: string, error: unknown): Promise<undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) throw error;
}
