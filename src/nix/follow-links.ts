import { lstat, readlink, realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { quote } from './quote.ts';
import { DEFAULT_STORE_DIR, parseStorePath } from './store-path.ts';

/** As many links as Linux itself follows. */
const MAX_LINKS = 40;

/**
 * The store path that a text names: itself, one that it lies in, or what a symbolic link such as `./result` or a
 * profile leads to. Links are followed until the first path in the store, as Nix does: whether that is on this disk
 * (a store may have another root) and valid is not asked.
 *
 * @throws NarswarmError `NOT_FOUND` where there is no such file, `STORE_PATH_INVALID` where it is not in the store.
 */
export async function followToStore(text: string, storeDir: string = DEFAULT_STORE_DIR): Promise<StorePath> {
  let path = resolve(text);
  for (let links = 0; links < MAX_LINKS; links++) {
    const inside = inStore(path, storeDir);
    if (inside !== undefined) return inside;
    const target = await targetOf(path, text);
    if (target === undefined) break;
    path = resolve(dirname(path), target);
  }
  const real = await realpath(path).catch(() => path); // a folder on the way may be the link
  const inside = inStore(real, storeDir);
  if (inside !== undefined) return inside;
  throw new NarswarmError(
    'STORE_PATH_INVALID',
    `${quote(text)} is not in ${storeDir}: name a store path, or a link to one such as ./result`,
  );
}

function inStore(path: string, storeDir: string): StorePath | undefined {
  if (!path.startsWith(`${storeDir}/`)) return undefined;
  const [baseName = ''] = path.slice(storeDir.length + 1).split('/');
  return parseStorePath(`${storeDir}/${baseName}`);
}

/** Where a symbolic link leads, or undefined for anything else. */
async function targetOf(path: string, text: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined;
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const reason = isMissing ? 'does not exist' : `cannot be read (${String(cause)})`;
    const message = `${quote(text)} does not lead to a store path: ${path} ${reason}`;
    throw new NarswarmError('NOT_FOUND', message, { cause, facts: { path: text } });
  }
}
