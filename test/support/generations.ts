import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { buildClosure, type MadeClosure } from '../../src/demo/closure.ts';

/**
 * The next generation of a closure, in the same binary cache: one blob is another, and so are the packages from there on
 * to the root. With the last blob these are two paths of all.
 *
 * @param blob index of the blob
 */
export async function nextGeneration(made: MadeClosure, blob: number, bytes: number): Promise<MadeClosure> {
  const dir = dirname(made.cacheDir);
  await writeFile(join(dir, 'blobs', `blob-${blob}`), randomBytes(bytes));
  return buildClosure(dir);
}
