import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError } from '../../errors.ts';
import { parseStoreHash } from '../../nix/store-path.ts';
import { NARINFO_NAME, type FileStore } from '../file-store.ts';
import { readLastServed } from '../catalogue/last-served.ts';
import { namesIn } from '../../disk/names-in.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { StoreGraph } from './store-graph.ts';

/** Files that are read at the same time. */
const CONCURRENCY = 32;

/**
 * Reads the contents of a store. Reads NARs before narinfos, so that a NAR whose narinfo arrives meanwhile does not
 * count as one without a narinfo.
 *
 * @param onProgress called now and then with the number of files read
 * @throws STORE_UNWRITABLE if a file cannot be read; the signal's reason
 */
export async function scanStore(
  store: FileStore,
  signal: AbortSignal,
  onProgress?: (files: number) => void,
): Promise<StoreGraph> {
  const graph = new StoreGraph();
  let files = 0;
  const seen = (): void => {
    signal.throwIfAborted();
    if (++files % 10_000 === 0) onProgress?.(files);
  };
  const nars = join(store.dir, 'nar');
  await eachFile(nars, async (name) => {
    const found = await stat(join(nars, name)).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw storeError(error, join(nars, name));
    });
    if (found?.isFile() === true) {
      const { size: sizeBytes, mtimeMs, ctimeMs } = found;
      graph.addNar(name, { sizeBytes, mtimeMs, ctimeMs });
    }
    seen();
  });
  for await (const { name, atMs } of readLastServed(store)) graph.addServed(name, atMs);
  await eachFile(store.dir, async (name) => {
    const storeHash = NARINFO_NAME.exec(name)?.[1];
    if (storeHash === undefined) return;
    try {
      const info = await store.readNarInfo(parseStoreHash(storeHash));
      if (info !== undefined) graph.addNarInfo(storeHash, info);
    } catch (error) {
      if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
      graph.addNarInfo(storeHash, undefined);
    }
    seen();
  });
  return graph;
}

/** Calls `look` for each name in a folder, several at a time. Never lists the whole folder. */
export async function eachFile(path: string, look: (name: string) => Promise<void>): Promise<void> {
  const names = namesIn(path);
  const lane = async (): Promise<void> => {
    for (let next = await names.next(); next.done !== true; next = await names.next()) await look(next.value);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, lane));
}
