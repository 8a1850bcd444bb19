/** A client that is fast because it leaves something out has not won. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NarFile } from './binary-cache.ts';

/** Interval of looks whether NARs are checked. */
const LOOK_EVERY_MS = 100;
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

/** Waits until a daemon has checked these NARs of its store: it gives none before. @throws the signal's reason */
export async function untilChecked(store: string, nars: readonly NarFile[], signal: AbortSignal): Promise<void> {
  const catalogue = join(store, 'narswarm', 'catalogue.jsonl');
  for (;;) {
    const text = await readFile(catalogue, 'utf8').catch(() => '');
    const checked = new Set<unknown>();
    for (const line of text.split('\n')) {
      const entry = line === '' ? {} : (JSON.parse(line) as Record<string, unknown>);
      if (entry['narHash'] !== undefined) checked.add(entry['storePath']);
    }
    if (checked.size >= nars.length) return;
    await sleep(LOOK_EVERY_MS, undefined, { signal });
  }
}
