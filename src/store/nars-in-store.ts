import { join } from 'node:path';
import type { StoreHash } from '../nix/brands.ts';
import { namesIn } from '../disk/names-in.ts';
import { statSync } from 'node:fs';
import type { FileStore } from './file-store.ts';

/** Number of files after which other work has its turn. */
const TURN_FILES = 1_000;

/**
 * Counts the NARs of some paths, or all NARs of a file store, and their bytes.
 *
 * @throws the signal's reason
 */
export async function narsInStore(
  store: FileStore,
  hashes: readonly StoreHash[] | undefined,
  signal: AbortSignal,
): Promise<{ readonly nars: number; readonly bytes: number }> {
  let [nars, bytes] = [0, 0];
  const count = (path: string): void => {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.isFile() !== true) return;
    nars++;
    bytes += found.size;
  };
  if (hashes === undefined) {
    const folder = join(store.dir, 'nar');
    for await (const name of namesIn(folder)) {
      count(join(folder, name));
      if (nars % TURN_FILES === 0) await new Promise(setImmediate);
      signal.throwIfAborted();
    }
    return { nars, bytes };
  }
  const urls = new Set<string>();
  for (const hash of hashes) {
    const info = await store.readNarInfo(hash).catch(() => undefined); // a damaged one is reported when it is examined
    if (info === undefined || urls.has(info.url)) continue;
    urls.add(info.url);
    count(store.narPath(info));
  }
  return { nars, bytes };
}
