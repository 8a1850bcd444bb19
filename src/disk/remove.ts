import { unlink } from 'node:fs/promises';
import { storeError, systemCode } from './store-error.ts';

/** Removes a file. Accepts one that is already gone. */
export async function remove(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw storeError(error, path);
  });
}
