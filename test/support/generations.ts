import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buildClosure, type MadeClosure } from '../../src/demo/closure.ts';

/**
 * Adds the next generation of a closure to the same binary cache: one blob differs, and so do the packages from there
 * to the root. With the last blob, two paths of all differ.
 *
 * @param blob index of the blob
 */
export async function nextGeneration(made: MadeClosure, blob: number, bytes: number): Promise<MadeClosure> {
  const dir = dirname(made.cacheDir);
  await writeFile(join(dir, 'blobs', `blob-${blob}`), randomBytes(bytes));
  return buildClosure(dir);
}
