import { readFile } from 'node:fs/promises';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StorePath } from '../brands.ts';
import { type Derivation, parseDerivation } from './derivation.ts';
import { readStoreFile } from '../programs/nix-queries.ts';
import type { StoreCallOptions } from '../programs/run-nix.ts';
import { physicalPath } from '../store-place.ts';

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
