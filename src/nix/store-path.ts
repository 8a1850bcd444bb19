/** Store paths and their parts: `/nix/store/<32 nix32 characters>-<name>` (Nix: src/libstore/path.cc). */
/* oxlint-disable typescript/no-unsafe-type-assertion -- brands are given here, after the check */
import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from './brands.ts';
import { quote } from './quote.ts';

/** Nix's store directory, unless it was built with another. */
export const DEFAULT_STORE_DIR = '/nix/store';

/**
 * Returns the store directory of this machine's Nix: NIX_STORE_DIR of the environment, or the default (Nix:
 * globals.cc).
 */
export function nixStoreDir({ NIX_STORE_DIR }: Readonly<Record<string, string | undefined>>): string {
  return NIX_STORE_DIR === undefined || !isStoreDir(NIX_STORE_DIR) ? DEFAULT_STORE_DIR : NIX_STORE_DIR;
}

const HASH_LENGTH = 32;
const HASH_PATTERN = /^[0-9a-df-np-sv-z]{32}$/;
const NAME_PATTERN = /^(?!\.{1,2}(?:-|$))[a-zA-Z0-9+\-._?=]{1,211}$/;
// oxlint-disable-next-line no-control-regex -- control characters are refused here
const CONTROL_CHARACTER = /[\x00-\x1f\x7f]/;

/**
 * Reads a whole store path, in any store directory. Cuts, resolves and trims nothing: refuses a path below a store
 * path, and trailing or doubled slashes.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`, naming the text and the expected form.
 */
export function parseStorePath(text: string): StorePath {
  const slash = text.lastIndexOf('/');
  if (!isStoreDir(text.slice(0, slash))) {
    throw invalid(text, 'a store path', `${DEFAULT_STORE_DIR}/<hash>-<name>`);
  }
  assertBaseName(text.slice(slash + 1), text, 'a store path');
  return text as StorePath;
}

/**
 * Joins a base name (`<hash>-<name>`, as in a narinfo's references) to its store directory.
 *
 * @throws NarswarmError `STORE_PATH_INVALID` if either is malformed.
 */
export function storePathFromBaseName(baseName: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  return `${parseStoreDir(storeDir)}/${parseBaseName(baseName)}` as StorePath;
}

/**
 * Checks the base name of a store path, `<hash>-<name>`, and returns it.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`.
 */
export function parseBaseName(text: string): string {
  assertBaseName(text, text, "a store path's base name");
  return text;
}

/** @param whole the user's text, which ends with `baseName`. Errors name it, as `kind` */
function assertBaseName(baseName: string, whole: string, kind: string): void {
  const hash = baseName.slice(0, HASH_LENGTH);
  const name = baseName.slice(HASH_LENGTH + 1);
  if (!HASH_PATTERN.test(hash) || baseName.charAt(HASH_LENGTH) !== '-') {
    throw invalid(whole, kind, '32 nix32 characters, a dash and a name after the last slash');
  }
  if (!NAME_PATTERN.test(name)) {
    throw invalid(whole, kind, 'a name of 1 to 211 of the characters a-z A-Z 0-9 + - . _ ? =');
  }
}

/**
 * Checks that the text is the hash part of a store path: 32 nix32 characters.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`.
 */
export function parseStoreHash(text: string): StoreHash {
  if (!HASH_PATTERN.test(text)) throw invalid(text, "a store path's hash", '32 nix32 characters');
  return text as StoreHash;
}

/**
 * Checks that the text is an absolute, normalised path other than `/`, and returns it.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`.
 */
export function parseStoreDir(text: string): string {
  if (!isStoreDir(text)) throw invalid(text, 'a store directory', `an absolute path such as ${DEFAULT_STORE_DIR}`);
  return text;
}

/** Returns the hash part of a store path. */
export function storeHashOf(path: StorePath): StoreHash {
  return baseNameOf(path).slice(0, HASH_LENGTH) as StoreHash;
}

/** Returns the base name of a store path: `<hash>-<name>`. */
export function baseNameOf(path: StorePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Returns true for the path of a .drv file (Nix: `StorePath::isDerivation`). */
export function isDerivationPath(path: StorePath): boolean {
  return path.endsWith('.drv');
}

/** Returns the directory of a store path, without a trailing slash. */
export function storeDirOf(path: StorePath): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function isStoreDir(text: string): boolean {
  const [root, ...segments] = text.split('/');
  return (
    root === '' &&
    segments.length > 0 &&
    segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..') &&
    !CONTROL_CHARACTER.test(text)
  );
}

function invalid(text: string, what: string, expected: string): NarswarmError {
  return new NarswarmError('STORE_PATH_INVALID', `${quote(text)} is not ${what}: expected ${expected}`);
}
