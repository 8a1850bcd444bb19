/** Store paths and their parts: `/nix/store/<32 nix32 characters>-<name>` (Nix: src/libstore/path.cc). */
/* oxlint-disable typescript/no-unsafe-type-assertion -- brands are given here, after the check */
import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from './brands.ts';
import { quote } from './quote.ts';

/** Where Nix keeps its store unless it was built otherwise. */
export const DEFAULT_STORE_DIR = '/nix/store';

/** The store directory of this machine's Nix: NIX_STORE_DIR of the environment, or the default (Nix: globals.cc). */
export function nixStoreDir({ NIX_STORE_DIR }: Readonly<Record<string, string | undefined>>): string {
  return NIX_STORE_DIR === undefined || !isStoreDir(NIX_STORE_DIR) ? DEFAULT_STORE_DIR : NIX_STORE_DIR;
}

const HASH_LENGTH = 32;
const HASH_PATTERN = /^[0-9a-df-np-sv-z]{32}$/;
const NAME_PATTERN = /^(?!\.{1,2}(?:-|$))[a-zA-Z0-9+\-._?=]{1,211}$/;
// oxlint-disable-next-line no-control-regex -- they are what is refused
const CONTROL_CHARACTER = /[\x00-\x1f\x7f]/;

/**
 * Reads a whole store path in any store directory. Nothing is cut, resolved or trimmed: a path below a store path,
 * a trailing slash or a doubled one is refused.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`, naming the text and what was expected.
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
 * Joins a base name (`<hash>-<name>`, as narinfos write references) to its store directory.
 *
 * @throws NarswarmError `STORE_PATH_INVALID` if either is malformed.
 */
export function storePathFromBaseName(baseName: string, storeDir: string = DEFAULT_STORE_DIR): StorePath {
  return `${parseStoreDir(storeDir)}/${parseBaseName(baseName)}` as StorePath;
}

/**
 * Checks the last component of a store path, `<hash>-<name>`, and returns it.
 *
 * @throws NarswarmError `STORE_PATH_INVALID`.
 */
export function parseBaseName(text: string): string {
  assertBaseName(text, text, "a store path's base name");
  return text;
}

/** @param whole what the user wrote, of which `baseName` is the end: errors name it, as `kind` */
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

/** The hash part of a store path. */
export function storeHashOf(path: StorePath): StoreHash {
  return baseNameOf(path).slice(0, HASH_LENGTH) as StoreHash;
}

/** The last component of a store path: `<hash>-<name>`. */
export function baseNameOf(path: StorePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Whether a path is a derivation's own file (Nix: `StorePath::isDerivation`). */
export function isDerivationPath(path: StorePath): boolean {
  return path.endsWith('.drv');
}

/** The directory of a store path, without a slash at its end. */
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
