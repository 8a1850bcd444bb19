/** A client that is fast because it leaves something out has not won. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { NarFile } from './binary-cache.ts';

/** Files that are read through after each run, chosen anew each time. */
const SAMPLES = 5;

/**
 * Makes sure that a directory holds every NAR in full: the number of files, the size of each, the SHA-256 of some.
 *
 * @throws Error naming the first that is wrong
 */
export async function assertFetched(dir: string, nars: readonly NarFile[]): Promise<void> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.nar.xz'));
  if (names.length !== nars.length) throw new Error(`${names.length} NARs of ${nars.length} are there`);
  const found = await Promise.all(nars.map(({ name }) => stat(join(dir, name)).catch(() => undefined)));
  for (const [index, { name, sizeBytes }] of nars.entries()) {
    const size = found[index]?.size;
    if (size !== sizeBytes) throw new Error(`${name} has ${size} bytes, not ${sizeBytes}`);
  }
  const samples = Array.from({ length: SAMPLES }, () => nars[Math.floor(Math.random() * nars.length)]);
  for (const nar of samples) {
    if (nar === undefined) continue;
    // oxlint-disable-next-line no-await-in-loop -- one NAR in memory at a time
    const content = await readFile(join(dir, nar.name));
    const sha256Hex = createHash('sha256').update(content).digest('hex');
    if (sha256Hex !== nar.sha256Hex) throw new Error(`${nar.name} has other bytes than the cache`);
  }
}
