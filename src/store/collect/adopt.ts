import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { inNixEntry, isInNixAs } from '../catalogue/catalogue-entry.ts';
import { reach } from './keep.ts';
import type { RefusedPaths } from './refused-paths.ts';
import type { ReleaseContext, Releasing } from './release.ts';
import { PRESENT } from './store-graph.ts';

/**
 * Catalogues NARs of imported subscriptions that are in the Nix store alone and have no line in the catalogue: it was
 * damaged, or Nix had the path before the update. Without a line, neighbours would never get them. Reads each once: its
 * NarHash must be the signed one.
 *
 * @returns their numbers in `graph`
 * @throws STORE_UNWRITABLE, STORE_FULL; NIX_MISSING, NIX_FAILED; the signal's reason
 */
export async function adopt(
  { imported, nars }: Releasing,
  refused: RefusedPaths,
  {
    store,
    graph,
    roots,
    catalogue,
    signal,
  }: Pick<ReleaseContext, 'store' | 'graph' | 'roots' | 'catalogue' | 'signal'>,
): Promise<readonly number[]> {
  const own = roots.filter(({ keeper }) => keeper !== undefined && imported.has(keeper));
  const reached = reach(
    graph,
    own.map(({ storePath }) => storeHashOf(storePath)),
  );
  const wanted: NarInfo[] = [];
  for (let path = 0; path < reached.length; path++) {
    if (reached[path] !== 1 || graph.state(path) !== PRESENT || graph.narBytes(graph.narOf(path)) >= 0) continue;
    const info = await store.readNarInfo(graph.storeHash(path) as StoreHash).catch(() => undefined);
    if (info !== undefined && !refused.has(info) && nars.changedAtMs(info.storePath) !== undefined) wanted.push(info);
  }
  if (wanted.length === 0) return [];
  const paths = wanted.map(({ storePath }) => storePath);
  const invalid = await queryInvalidPaths(paths, undefined, { signal });
  const adopted: number[] = [];
  for (const info of wanted) {
    const { storePath, narSize } = info;
    if (invalid.has(storePath)) continue;
    const hashed = await nars.hash(storePath, narSize, signal);
    nars.forget(storePath);
    if (hashed === undefined) continue;
    const entry = inNixEntry(hashed, { storePath, askedBy: 'subscription' });
    if (isInNixAs(entry, info)) {
      await catalogue.add([entry]);
      adopted.push(graph.narOf(graph.knownNumber(storeHashOf(storePath))));
    } else refused.add(info, hashed.changedAtMs);
  }
  return adopted;
}
