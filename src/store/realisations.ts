/** The realisations of a file store, in the place where Nix looks for them in a substituter. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../disk/make-folder.ts';
import { parseRealisation, type Realisation } from '../nix/realisation.ts';
import { parseStoreHash } from '../nix/store-path.ts';
import type { FileStore } from './file-store.ts';
import { remove } from '../disk/remove.ts';
import { storeError, systemCode, inStore } from '../disk/store-error.ts';
import { replaceFile } from '../disk/replace.ts';

const FOLDERS = ['realisations', 'build-trace-v2'];
/** Files that are read at the same time. */
const CONCURRENCY = 32;

/**
 * Writes realisations, each whole or not at all. Leaves out those of paths without a narinfo in the store: Nix would
 * look for such a path in vain.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function writeRealisations(realisations: Iterable<Realisation>, store: FileStore): Promise<void> {
  for (const { file, text, outPath } of realisations) {
    if (!existsSync(store.narInfoPath(parseStoreHash(outPath.slice(0, 32))))) continue;
    const path = join(store.dir, file);
    await inStore(makeFolder(dirname(path)), path);
    if ((await readIfThere(path)) !== text) await replaceFile(path, text);
  }
}

/**
 * Reads all realisations of a store, by the base name of their paths. Skips other files.
 *
 * @throws STORE_UNWRITABLE if the folder cannot be read
 */
export async function readRealisations(store: FileStore): Promise<Map<string, Realisation[]>> {
  const files: string[] = [];
  for (const folder of FOLDERS) {
    const found = await readdir(join(store.dir, folder), { recursive: true }).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return [];
      throw storeError(error, join(store.dir, folder));
    });
    files.push(...found.filter((name) => name.endsWith('.doi')).map((name) => `${folder}/${name}`));
  }
  const realisations: Realisation[] = [];
  const read = async (file: string): Promise<void> => {
    const realisation = parseRealisation(file, (await readIfThere(join(store.dir, file))) ?? '');
    if (realisation !== undefined) realisations.push(realisation);
  };
  for (let at = 0; at < files.length; at += CONCURRENCY) await Promise.all(files.slice(at, at + CONCURRENCY).map(read));
  return Map.groupBy(realisations, ({ outPath }) => outPath);
}

/**
 * Removes realisations of paths without a narinfo in the store: Nix would look for such a path in vain.
 *
 * @throws STORE_UNWRITABLE
 */
export async function removeStrayRealisations(store: FileStore): Promise<void> {
  const realisations = await readRealisations(store);
  if (realisations.size === 0) return;
  const present = new Set<string>(await store.listStoreHashes());
  for (const [outPath, stray] of realisations) {
    if (present.has(outPath.slice(0, 32))) continue;
    for (const { file } of stray) await remove(join(store.dir, file));
  }
}

/** Reads the realisation in this file. Undefined if the store has none. */
export async function readRealisation(file: string, store: FileStore): Promise<Realisation | undefined> {
  return parseRealisation(file, (await readIfThere(join(store.dir, file))) ?? '');
}

async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'EISDIR') return undefined;
    throw storeError(error, path);
  });
}
