import { opendir } from 'node:fs/promises';
import { storeError, systemCode } from './store-error.ts';

/**
 * Yields the names in a folder, in no order, without listing it as a whole. Yields none if there is no such folder.
 * @throws STORE_UNWRITABLE if it cannot be read
 */
export async function* namesIn(path: string): AsyncGenerator<string> {
  const folder = await opendir(path, { bufferSize: 1024 }).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    throw storeError(error, path);
  });
  for await (const { name } of folder ?? []) yield name;
}
