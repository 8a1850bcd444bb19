/** Spellings of a store path on a command line. */
import { readdir } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from './brands.ts';
import { followToStore, isLink } from './follow-links.ts';
import { quote } from './quote.ts';
import { baseNameOf, nixStoreDir, parseStoreHash, storeHashOf, storePathFromBaseName } from './store-path.ts';

/**
 * Reads a store path, anything below one, a link to one (`./result`, or `result` in the working folder), its name in the
 * store, or its hash part.
 *
 * @returns the hash part alone where nothing else was given; undefined for a word that is none of these
 * @throws STORE_PATH_INVALID, NOT_FOUND as {@link followToStore}
 */
export async function findNamedPath(text: string): Promise<StorePath | StoreHash | undefined> {
  if (text.includes('/')) return followToStore(text);
  const named =
    valueOr(() => parseStoreHash(text)) ?? valueOr(() => storePathFromBaseName(text, nixStoreDir(process.env)));
  if (named !== undefined) return named;
  return (await isLink(text)) ? followToStore(text) : undefined;
}

/** The same for a command that takes nothing else. @throws STORE_PATH_INVALID for any other word, too */
export async function readNamedPath(text: string): Promise<StorePath | StoreHash> {
  const named = await findNamedPath(text);
  if (named !== undefined) return named;
  throw new NarswarmError(
    'STORE_PATH_INVALID',
    `${quote(text)} is neither a store path nor a link to one such as ./result nor the hash part of one`,
  );
}

/**
 * The whole path of what was read, for a command that works with the Nix store of this machine.
 *
 * @throws NOT_FOUND for a hash part of which no path is there
 */
export async function wholePath(
  named: StorePath | StoreHash,
  storeDir: string = nixStoreDir(process.env),
): Promise<StorePath> {
  if (isPath(named)) return named;
  const names = await readdir(storeDir).catch(() => []);
  const name = names.find((one) => one.startsWith(`${named}-`) && !one.endsWith('.lock'));
  if (name !== undefined) return storePathFromBaseName(name, storeDir);
  throw new NarswarmError('NOT_FOUND', `${storeDir} holds no path with the hash ${named}: name the whole path`, {
    facts: { path: named },
  });
}

/** The hash part of what was read. */
export function hashOfNamed(named: StorePath | StoreHash): StoreHash {
  return isPath(named) ? storeHashOf(named) : named;
}

/** Whether a whole path was read, and not its hash part alone. */
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
