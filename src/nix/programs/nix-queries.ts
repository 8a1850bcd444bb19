/** Asks Nix what its stores hold. */
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../brands.ts';
import { parseRealisations, type Realisation } from '../realisation.ts';
import {
  chunksOf,
  NIX_COMMAND,
  nixFailed,
  askNix,
  storeArgs,
  type CallOptions,
  type StoreCallOptions,
} from './run-nix.ts';
import { parseUltimate } from '../path-info.ts';
import { parseStorePath } from '../store-path.ts';
import { parseRegistrations, type ValidPath } from '../valid-path.ts';

/**
 * Returns the paths that the store does not hold. A local store that does not exist yet holds none; Nix creates its
 * empty database.
 *
 * @param store a store URI such as `local?root=/mnt`. Undefined: Nix's default store
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function queryInvalidPaths(
  paths: readonly StorePath[],
  store: string | undefined,
  options: CallOptions = {},
): Promise<Set<StorePath>> {
  const query = ['--check-validity', '--print-invalid', ...(store === undefined ? [] : ['--store', store])];
  const invalid = new Set<StorePath>();
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: parallel calls gain nothing
    const result = await askNix('nix-store', [...query, ...chunk], options);
    if (result.failed) throw nixFailed(result);
    for (const line of result.stdout.split('\n')) {
      if (line !== '') invalid.add(parseStorePath(line));
    }
  }
  return invalid;
}

/**
 * Returns the closure of paths in Nix's default store, with Nix's record of each path. References come first.
 *
 * @throws NarswarmError `NOT_FOUND`, naming a path that the store does not hold; `NIX_MISSING`, or `NIX_FAILED` in
 *   Nix's own words.
 */
export async function queryRegistrations(paths: readonly StorePath[], options: CallOptions = {}): Promise<ValidPath[]> {
  const [invalid] = await queryInvalidPaths(paths, undefined, options);
  if (invalid !== undefined) {
    const message = `${invalid} is not valid in the Nix store of this machine: build it first (nix build)`;
    throw new NarswarmError('NOT_FOUND', message, { facts: { path: invalid } });
  }
  const closure = new Set<StorePath>();
  for (const line of await runOverPaths(['--query', '--requisites'], paths, options)) closure.add(parseStorePath(line));
  // `path-info --json` changed its shape several times; --dump-db writes the lines that Nix reads back with --load-db.
  return parseRegistrations(await runOverPaths(['--dump-db'], [...closure], options));
}

/**
 * Returns the closure of a path in the store, the path included. For a .drv file, that is all that its build needs.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words, for example if the store does not hold the
 *   path.
 */
export async function queryClosure(path: StorePath, options: StoreCallOptions = {}): Promise<StorePath[]> {
  const result = await askNix('nix-store', ['-qR', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout.split('\n').flatMap((line) => (line === '' ? [] : parseStorePath(line)));
}

/**
 * Returns the GC roots that keep a valid path, as Nix names them.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words
 */
export async function queryRoots(path: StorePath, options: StoreCallOptions = {}): Promise<string[]> {
  const result = await askNix('nix-store', ['-q', '--roots', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout.split('\n').filter((line) => line !== '');
}

/**
 * Returns the .drv path that a path was built from, if the store knows it. The .drv file itself may be gone.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words, for example if the store does not hold the
 *   path.
 */
export async function queryDeriver(path: StorePath, options: StoreCallOptions = {}): Promise<StorePath | undefined> {
  const result = await askNix('nix-store', ['-q', '--deriver', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  const line = result.stdout.trim();
  return line === 'unknown-deriver' ? undefined : parseStorePath(line);
}

/**
 * Returns the realisations of a derivation's outputs in a store. Returns none if it was not built there, or if this Nix
 * has no content-addressed derivations. Builds nothing.
 *
 * @throws NarswarmError `NIX_MISSING`; the signal's reason
 */
export async function queryRealisations(drvPath: StorePath, options: StoreCallOptions = {}): Promise<Realisation[]> {
  const query = ['--extra-experimental-features', 'nix-command ca-derivations', 'realisation', 'info', '--json'];
  const result = await askNix('nix', [...query, ...storeArgs(options), '--max-jobs', '0', drvPath], options);
  return result.failed ? [] : parseRealisations(result.stdout);
}

/**
 * Returns the paths, among these valid ones, that this machine has built itself.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words, for example if a path is not valid
 */
export async function queryBuiltHere(
  paths: readonly StorePath[],
  options: StoreCallOptions = {},
): Promise<Set<StorePath>> {
  const built = new Set<StorePath>();
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: parallel calls gain nothing
    const result = await askNix(
      'nix',
      [...NIX_COMMAND, 'path-info', '--json', ...storeArgs(options), ...chunk],
      options,
    );
    if (result.failed) throw nixFailed(result);
    for (const path of parseUltimate(result.stdout)) built.add(path);
  }
  return built;
}

/**
 * Reads a file of any store, on this machine or elsewhere.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readStoreFile(path: StorePath, options: StoreCallOptions = {}): Promise<string> {
  const result = await askNix('nix', [...NIX_COMMAND, 'store', 'cat', ...storeArgs(options), path], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout;
}

/** Returns the lines that `nix-store` prints for paths of the default store, in the order of the paths. */
async function runOverPaths(
  query: readonly string[],
  paths: readonly StorePath[],
  options: CallOptions,
): Promise<string[]> {
  const lines: string[] = [];
  for (const chunk of chunksOf(paths)) {
    // oxlint-disable-next-line no-await-in-loop -- Nix locks its database: parallel calls gain nothing
    const result = await askNix('nix-store', [...query, ...chunk], options);
    if (result.failed) throw nixFailed(result);
    if (result.stdout !== '') lines.push(...result.stdout.split('\n'));
  }
  return lines;
}
