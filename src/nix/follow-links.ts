import { existsSync } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { quote } from './quote.ts';
import { nixStoreDir, parseStorePath } from './store-path.ts';

/** A path in any store directory; the first group is the directory. */
const STORE_PATH = /^(\/.+)\/[0-9a-df-np-sv-z]{32}-[^/]+(?:\/|$)/;
/** Limit on links, as in Linux. */
const MAX_LINKS = 40;

/**
 * Returns the store path that a text names: the path itself, the path that it is below, or the target of a symbolic
 * link such as `./result` or a profile. As Nix does, follows links up to the first path in the store. The path need not
 * be on this disk (a store may have another root), nor be valid.
 *
 * @throws NarswarmError `NOT_FOUND` if there is no such file, `STORE_PATH_INVALID` if it is not in the store.
 */
export async function followToStore(text: string, storeDir: string = nixStoreDir(process.env)): Promise<StorePath> {
  const { end, storePath, cause } = await followLinks(text, storeDir);
  if (storePath !== undefined) return storePath;
  const other = STORE_PATH.exec(end)?.[1];
  if (other !== undefined) {
    const wayOut = `set NIX_STORE_DIR=${other}, with a file store of its own (--store)`;
    const message = `${quote(text)} is in the store directory ${other}, but this Nix uses ${storeDir}: ${wayOut}`;
    throw new NarswarmError('STORE_PATH_INVALID', message, { facts: { path: text, theirs: other, ours: storeDir } });
  }
  if (cause !== undefined) {
    const reason = cause.code === 'ENOENT' ? 'does not exist' : `cannot be read (${cause.message})`;
    const message = `${quote(text)} does not lead to a store path: ${end} ${reason}`;
    throw new NarswarmError('NOT_FOUND', message, { cause, facts: { path: text } });
  }
  const wayOut = existsSync(join(end, 'flake.nix'))
    ? `a flake is written with a #, as ${text.replace(/\/+$/, '')}#default`
    : 'name a store path, or a link to one such as ./result';
  throw new NarswarmError('STORE_PATH_INVALID', `${quote(text)} is not in ${storeDir}: ${wayOut}`);
}

/** The end of a path's links. */
interface Followed {
  /** The path without links, as far as they could be followed. */
  readonly end: string;
  /** The store path that it is in. Undefined if it is not in the store. */
  readonly storePath: StorePath | undefined;
  /** The system's error, if `end` could not be read. */
  readonly cause?: NodeJS.ErrnoException;
  /** True if the links form a circle. */
  readonly isCircle?: boolean;
}

/**
 * Follows the links of a path and of its folders, until it is in the store.
 *
 * @throws NarswarmError `STORE_PATH_INVALID` if it is in the store directory, but in no store path
 */
export async function followLinks(text: string, storeDir: string): Promise<Followed> {
  let path = resolve(text);
  for (let links = 0; links <= MAX_LINKS; links++) {
    if (path.startsWith(`${storeDir}/`)) return { end: path, storePath: pathIn(path, storeDir) };
    let link: { at: string; target: string } | undefined;
    try {
      link = await firstLink(path);
    } catch (error) {
      return { end: path, storePath: undefined, cause: error as NodeJS.ErrnoException };
    }
    if (link === undefined) return { end: path, storePath: undefined };
    path = join(resolve(dirname(link.at), link.target), path.slice(link.at.length));
  }
  return { end: path, storePath: undefined, isCircle: true };
}

/** Returns true if there is a symbolic link at this path. */
export async function isLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
}

/** Returns the first part of a path that is a symbolic link. @throws the system's error if a part does not exist */
async function firstLink(path: string): Promise<{ at: string; target: string } | undefined> {
  const parts = path.split('/').filter((part) => part !== '');
  for (let count = 1; count <= parts.length; count++) {
    const at = `/${parts.slice(0, count).join('/')}`;
    if ((await lstat(at)).isSymbolicLink()) return { at, target: await readlink(at) };
  }
  return undefined;
}

function pathIn(path: string, storeDir: string): StorePath {
  const [baseName = ''] = path.slice(storeDir.length + 1).split('/', 1);
  return parseStorePath(`${storeDir}/${baseName}`);
}
