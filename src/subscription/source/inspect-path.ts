import { readFile, stat } from 'node:fs/promises';
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { followLinks } from '../../nix/follow-links.ts';
import { quote } from '../../nix/quote.ts';
import { systemCode } from '../../disk/store-error.ts';
import { MAX_LIST_BYTES, readPathList } from './path-list.ts';

/** The meaning of a local path: a list of store paths, or a link into the store. */
export type LocalSource =
  | { readonly kind: 'list'; readonly paths: readonly StorePath[] }
  | { readonly kind: 'profile'; readonly path: StorePath };

/**
 * Follows a path as Nix does. If it leads into the store directory, it is a profile. A regular file elsewhere is a
 * list. The store path need not exist: a chroot store has it below another root.
 *
 * @throws NOT_FOUND if the path does not exist; USAGE if it is neither, cannot be read, or as {@link readPathList}
 */
export async function inspectPath(path: string, storeDir: string, signal?: AbortSignal): Promise<LocalSource> {
  try {
    const profile = await followIntoStore(path, storeDir);
    if (profile !== undefined) return { kind: 'profile', path: profile };
    const { size } = await assertFile(path);
    if (size > MAX_LIST_BYTES) throw new NarswarmError('USAGE', `${path} is longer than ${MAX_LIST_BYTES} bytes`);
    return { kind: 'list', paths: await readPathList(await readFile(path), path, { storeDir, signal }) };
  } catch (error) {
    const code = systemCode(error);
    if (error instanceof NarswarmError || code === undefined) throw error;
    const facts = { path };
    if (code === 'ENOENT') {
      throw new NarswarmError('NOT_FOUND', `there is no ${path}: give a list of store paths or a profile`, {
        cause: error,
        facts,
      });
    }
    throw new NarswarmError('USAGE', `cannot read ${path} (${code}): check its permissions`, { cause: error, facts });
  }
}

/** @throws USAGE for a circle of links; the system's error for a missing path */
async function followIntoStore(start: string, storeDir: string): Promise<StorePath | undefined> {
  const { storePath, cause, isCircle = false } = await followLinks(start, storeDir);
  if (cause !== undefined) throw cause;
  if (isCircle)
    throw new NarswarmError('USAGE', `${start} is a link that leads in a circle`, { facts: { path: start } });
  return storePath;
}

async function assertFile(path: string): Promise<{ size: number }> {
  const found = await stat(path);
  if (found.isFile()) return found;
  const wayOut = found.isDirectory() ? `; a flake is written with a #: ${path}#default` : '';
  throw new NarswarmError(
    'USAGE',
    `${quote(path)} is neither a list of store paths nor a link into the store${wayOut}`,
    {
      facts: { path },
    },
  );
}
