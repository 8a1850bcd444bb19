import { randomUUID } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { rename, unlink, writeFile } from 'node:fs/promises';
import { inStore, storeError } from './store-error.ts';

/** Up to this size, writing a file takes less time than passing it to another thread. */
const AT_ONCE_BYTES = 32 * 1024;

/**
 * Returns a name for a file that is written beside its place and then renamed. gc knows it by its ending, if a killed
 * process leaves it.
 */
export function temporaryBeside(path: string): string {
  return `${path}.${randomUUID().slice(0, 8)}.tmp`;
}

/** Moves a file into its place. Replaces the one that is there. @throws STORE_FULL, STORE_UNWRITABLE */
export async function moveFile(from: string, to: string): Promise<void> {
  await inStore(rename(from, to), to);
}

/**
 * Replaces a file by rename: a reader sees a whole file or none.
 *
 * @param options.mode permissions of the new file, such as 0o600 for a private one. Default: by the umask
 * @throws STORE_FULL, STORE_UNWRITABLE: then the file before stays
 */
export async function replaceFile(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode?: number } = {},
): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    if (content.length <= AT_ONCE_BYTES) {
      writeFileSync(temporary, content, options);
      renameSync(temporary, path);
    } else {
      await writeFile(temporary, content, options);
      await rename(temporary, path);
    }
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw storeError(error, path);
  }
}
