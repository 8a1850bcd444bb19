import { NarswarmError } from '../errors.ts';
import { isTooManyFiles, TOO_MANY_FILES } from './too-many-files.ts';

const FULL = new Set(['ENOSPC', 'EDQUOT']);

/** Returns the `code` of a system error (`ENOENT` …). Undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Waits for work on a file or folder of the store. @throws as {@link storeError} */
export function inStore<T>(work: Promise<T>, path: string): Promise<T> {
  return work.catch((error: unknown) => Promise.reject(storeError(error, path)));
}

/** Turns a failure of the file system below the store into STORE_FULL or STORE_UNWRITABLE, with the way out. */
export function storeError(error: unknown, path: string): NarswarmError {
  if (error instanceof NarswarmError) return error;
  const code = systemCode(error);
  if (code !== undefined && FULL.has(code)) {
    return new NarswarmError(
      'STORE_FULL',
      `no space left on the device that holds ${path}: free some space, then run the same command again to continue`,
      { cause: error, facts: { path } },
    );
  }
  if (isTooManyFiles(error)) {
    return new NarswarmError('STORE_UNWRITABLE', `cannot open ${path}: ${TOO_MANY_FILES}`, {
      cause: error,
      facts: { path },
    });
  }
  const check = code === 'ENOTDIR' || code === 'EEXIST' ? 'a file is in the way, so move it' : 'check its permissions';
  return new NarswarmError(
    'STORE_UNWRITABLE',
    `cannot write ${path} (${code ?? String(error)}): ${check} or choose another --store`,
    {
      cause: error,
      facts: { path },
    },
  );
}
