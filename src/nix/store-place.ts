/** Where Nix stores are on the disks of this machine. */
import { access } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { StorePath } from './brands.ts';
import { nixStoreDir, parseStorePath } from './store-path.ts';

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

/**
 * Returns true for a store that is reached over a network: each command of Nix makes a new connection to it.
 *
 * @param uri undefined: Nix's default store
 */
export function isRemoteStore(uri: string | undefined): boolean {
  const store = uri ?? process.env.NIX_REMOTE ?? '';
  return !/^(?:|auto|daemon|unix:.*|file:.*|local(?:[?:].*)?|\.{0,2}\/.*)$/.test(store);
}

/**
 * Returns true if a store is a folder of this machine that does not exist, such as one on a disk that is not mounted:
 * any question would make Nix create it. False for the default store of an ordinary user, who may have it at home.
 *
 * @param uri undefined: Nix's default store
 */
export async function isAbsentStore(uri: string | undefined): Promise<boolean> {
  const store = uri ?? process.env.NIX_REMOTE ?? '';
  if (/^(?:|auto)$/.test(store) && process.getuid?.() !== 0) return false;
  const place = physicalPath(parseStorePath(`${nixStoreDir(process.env)}/${'0'.repeat(32)}-x`), store);
  if (place === undefined) return false;
  return access(dirname(place)).then(
    () => false,
    () => true,
  );
}
