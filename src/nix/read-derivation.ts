import { access, readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { type Derivation, parseDerivation } from './derivation.ts';
import { readStoreFile } from './nix-queries.ts';
import type { StoreCallOptions } from './run-nix.ts';
import { DEFAULT_STORE_DIR, parseStorePath } from './store-path.ts';

/**
 * Reads a .drv file of a store: from the disk if the store is on this machine, otherwise with `nix store cat`, which
 * starts a process.
 *
 * @throws NarswarmError `DERIVATION_INVALID` naming the file; `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readDerivation(path: StorePath, options: StoreCallOptions = {}): Promise<Derivation> {
  options.signal?.throwIfAborted();
  const file = physicalPath(path, options.store ?? process.env.NIX_REMOTE ?? '');
  const onDisk = file === undefined ? undefined : await readFile(file, 'utf8').catch(() => undefined);
  try {
    return parseDerivation(onDisk ?? (await readStoreFile(path, options)));
  } catch (error) {
    if (!isNarswarmError(error, 'DERIVATION_INVALID')) throw error;
    throw new NarswarmError('DERIVATION_INVALID', `${path}: ${error.message}`, {
      cause: error,
      facts: { ...error.facts, path },
    });
  }
}

/**
 * Returns where a store with this URI keeps a path on the disk, as far as the URI tells. A chroot store (`/mnt`,
 * `local?root=/mnt`) keeps it below its root. Undefined for stores elsewhere.
 */
export function physicalPath(path: StorePath, store: string): string | undefined {
  const [scheme = '', query = ''] = store.split('?', 2);
  const parameters = new URLSearchParams(query);
  const real = parameters.get('real');
  if (real !== null) return `${resolve(real)}${path.slice(path.lastIndexOf('/'))}`;
  const root = parameters.get('root');
  if (root !== null) return `${resolve(root)}${path}`;
  if (/^(?:|auto|daemon|local|local:\/\/|unix:\/\/.*)$/.test(scheme)) return path;
  const [, folder] = /^(?:local:\/\/)?(\.{0,2}\/.*)$/.exec(scheme) ?? [];
  return folder === undefined ? undefined : `${resolve(folder)}${path}`;
}

/** Returns true if a store is a folder of this machine that does not exist: any query would make Nix create it. */
export async function isAbsentStore(uri: string | undefined): Promise<boolean> {
  const place = physicalPath(
    parseStorePath(`${DEFAULT_STORE_DIR}/${'0'.repeat(32)}-x`),
    uri ?? process.env.NIX_REMOTE ?? '',
  );
  if (place === undefined) return false;
  return access(dirname(place)).then(
    () => false,
    () => true,
  );
}
