/** Reads store paths as people write them on a command line. */
import { readdir } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from './brands.ts';
import { followToStore, isLink } from './follow-links.ts';
import { quote } from './quote.ts';
import { baseNameOf, nixStoreDir, parseStoreHash, storeHashOf, storePathFromBaseName } from './store-path.ts';

/**
 * Reads a store path, a path below one (`.` for the working folder), a link to one (`./result`, or `result` in the working
 * folder), a base name in the store, or a hash part.
 *
 * @returns the hash part if only that was given; undefined if the word is none of these
 * @throws STORE_PATH_INVALID, NOT_FOUND as {@link followToStore}
 */
export async function findNamedPath(text: string): Promise<StorePath | StoreHash | undefined> {
  if (text.includes('/') || text === '.' || text === '..') return followToStore(text);
  const named =
    valueOr(() => parseStoreHash(text)) ?? valueOr(() => storePathFromBaseName(text, nixStoreDir(process.env)));
  if (named !== undefined) return named;
  return (await isLink(text)) ? followToStore(text) : undefined;
}

/** Reads a named path and accepts nothing else. @throws STORE_PATH_INVALID for any other word, too */
export async function readNamedPath(text: string): Promise<StorePath | StoreHash> {
  const named = await findNamedPath(text);
  if (named !== undefined) return named;
  throw new NarswarmError(
    'STORE_PATH_INVALID',
    `${quote(text)} is not a store path, a link to one such as ./result, or the hash part of one`,
  );
}

/**
 * Completes a named path, for commands that use the Nix store of this machine.
 *
 * @throws NOT_FOUND if the store has no path with this hash part
 */
export async function wholePath(
  named: StorePath | StoreHash,
  storeDir: string = nixStoreDir(process.env),
): Promise<StorePath> {
  if (isPath(named)) return named;
  const names = await readdir(storeDir).catch(() => []);
  const name = names.find((one) => one.startsWith(`${named}-`) && !one.endsWith('.lock'));
  if (name !== undefined) return storePathFromBaseName(name, storeDir);
  throw new NarswarmError('NOT_FOUND', `${storeDir} has no path with the hash ${named}: name the whole path`, {
    facts: { path: named },
  });
}

/** Returns the hash part of a named path. */
export function hashOfNamed(named: StorePath | StoreHash): StoreHash {
  return isPath(named) ? storeHashOf(named) : named;
}

/** Returns true for a whole path, false for a hash part. */
export function isPath(named: StorePath | StoreHash): named is StorePath {
  return baseNameOf(named as StorePath) !== named;
}

function valueOr<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
