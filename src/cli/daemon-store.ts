import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { systemCode } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import { FileStore } from '../store/file-store.ts';
import type { Origin } from './options/configuration.ts';
import type { Output } from './output.ts';

/**
 * Opens the file store of a daemon. Makes it if it does not exist, and says so: a mistyped path would seed nothing for
 * ever. A path that somebody named must have a parent; defaults may lack even that.
 *
 * @throws USAGE if the parent of a named store does not exist; errors of {@link FileStore.open}
 */
export async function openDaemonStore(
  dir: string,
  { origin: { source, where }, output }: { readonly origin: Origin; readonly output: Output },
): Promise<FileStore> {
  const path = resolve(dir);
  const isNew = await isMissing(path);
  const isNamed = source !== 'default';
  if (isNew && isNamed && (await isMissing(dirname(path))))
    throw new NarswarmError(
      'USAGE',
      `${where}: neither ${path} nor its parent folder exists, so no file store was made: correct the path, or make ${dirname(path)} first`,
      { facts: { path } },
    );
  const store = await FileStore.open(path, { create: true });
  const made = `the file store ${path} did not exist: this daemon has made it, and it is empty`;
  if (isNew && isNamed)
    output.warn(`${made}; if you meant another one, correct ${where}`, { kind: 'made-store', path });
  else if (isNew) output.note(made);
  return store;
}

async function isMissing(path: string): Promise<boolean> {
  return stat(path).then(
    () => false,
    (error: unknown) => systemCode(error) === 'ENOENT',
  );
}
