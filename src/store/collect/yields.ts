import type { StorePath } from '../../nix/brands.ts';
import { parseStoreHash, storeHashOf } from '../../nix/store-path.ts';
import type { FileStore } from '../file-store.ts';
import type { Eviction } from './evict.ts';
import { reach, type Root } from './keep.ts';
import type { StoreGraph } from './store-graph.ts';

/** The part of a keeper's closures that is removed to make room. */
export interface Yield {
  /** Name of the subscription. */
  readonly keeper: string;
  /** The tops of the paths that remain. */
  readonly roots: readonly StorePath[];
  /** Number of removed paths. */
  readonly paths: number;
  /** Bytes of the NARs that are removed with them. */
  readonly bytes: number;
}

/**
 * Returns the paths that each keeper of these roots loses by an eviction. Leaves out keepers that lose none.
 *
 * @throws STORE_UNWRITABLE, STORE_CORRUPT if a narinfo cannot be read
 */
export async function yieldsOf(
  roots: readonly Root[],
  { graph, chosen, store }: { readonly graph: StoreGraph; readonly chosen: Eviction; readonly store: FileStore },
): Promise<Yield[]> {
  const gone = new Uint8Array(graph.pathCount);
  for (const path of chosen.paths) gone[path] = 1;
  const yields: Yield[] = [];
  for (const [keeper, own] of Map.groupBy(roots, (root) => root.keeper ?? '')) {
    const reached = reach(
      graph,
      own.map(({ storePath }) => storeHashOf(storePath)),
    );
    const lost = chosen.paths.filter((path) => reached[path] === 1);
    if (lost.length === 0) continue;
    const nars = new Set(lost.map((path) => graph.narOf(path)).filter((nar) => chosen.nars[nar] === 1));
    const tops: StorePath[] = [];
    for (const path of topsOf(graph, reached, gone)) {
      const info = await store.readNarInfo(parseStoreHash(graph.storeHash(path)));
      if (info !== undefined) tops.push(info.storePath);
    }
    const bytes = [...nars].reduce((sum, nar) => sum + graph.narBytes(nar), 0);
    yields.push({ keeper, roots: tops, paths: lost.length, bytes });
  }
  return yields;
}

/** Returns the remaining paths of closures that no other remaining path of them refers to. */
function topsOf(graph: StoreGraph, reached: Uint8Array, gone: Uint8Array): number[] {
  const referred = new Uint8Array(graph.pathCount);
  const remaining: number[] = [];
  for (let path = 0; path < graph.pathCount; path++) {
    if (reached[path] !== 1 || gone[path] === 1) continue;
    remaining.push(path);
    for (const other of graph.references(path)) referred[other] = 1;
  }
  return remaining.filter((path) => referred[path] !== 1);
}
