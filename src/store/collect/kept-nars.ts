import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StorePath } from '../../nix/brands.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { systemCode } from '../../disk/store-error.ts';
import type { FileStore } from '../file-store.ts';
import { reach } from './keep.ts';
import { eachFile, scanStore } from './scan.ts';

/** Returns the bytes of all NARs of a store. @throws STORE_UNWRITABLE if `nar/` cannot be read */
export async function narBytes(store: FileStore): Promise<number> {
  const folder = join(store.dir, 'nar');
  let sum = 0;
  await eachFile(folder, async (name) => {
    const found = await stat(join(folder, name)).catch((error: unknown) => {
      if (systemCode(error) !== 'ENOENT') throw error;
    });
    sum += found?.size ?? 0;
  });
  return sum;
}

/**
 * Finds the NARs that stay for the closures of some roots, and those that no narinfo names. Returns the bytes of each,
 * by its FileHash.
 *
 * @throws as {@link scanStore}
 */
export async function keptNars(
  store: FileStore,
  roots: readonly StorePath[],
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const graph = await scanStore(store, signal);
  const isKept = reach(graph, roots.map(storeHashOf));
  const nars = new Map<string, number>();
  const keep = (nar: number): void => {
    const bytes = graph.narBytes(nar);
    if (bytes >= 0) nars.set(graph.narName(nar).split('.', 1).join(), bytes);
  };
  for (let path = 0; path < graph.pathCount; path++) if (isKept[path] === 1) keep(graph.narOf(path));
  for (let nar = 0; nar < graph.narCount; nar++) if (graph.narUsers(nar) === 0) keep(nar);
  return nars;
}
