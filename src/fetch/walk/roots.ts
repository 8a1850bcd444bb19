import type { StoreHash, StorePath } from '../../nix/brands.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../../nix/store-path.ts';
import type { Beyond, MapBudget } from '../../index/within-budget.ts';
import type { HashMaps } from '../sources/hash-maps.ts';

/** A root as a person names it. */
export interface NamedRoot {
  readonly text: string;
  /** Undefined if only a hash map can resolve the name. */
  readonly known: { readonly path: StorePath } | { readonly hash: StoreHash } | undefined;
}

/** The part of hash maps that does not fit into a budget. */
export interface Outsized extends Beyond {
  /** Names of the roots that are held only in part. */
  readonly roots: readonly string[];
}

/** The roots of a fetch. */
export interface Roots {
  /** Names of the roots in messages, by store hash. */
  readonly names: ReadonlyMap<StoreHash, string>;
  /** Paths of roots that are known completely. */
  readonly paths: readonly StorePath[];
  /** The part of whole hash maps that is left out, since it is too large. Undefined if all of them fits. */
  readonly outsized: Outsized | undefined;
}

/** Reads store paths, hash parts and names of roots. @throws STORE_PATH_INVALID for a malformed path */
export function readRoots(texts: readonly string[]): NamedRoot[] {
  return texts.map((text) => ({ text, known: asStorePath(text) }));
}

/**
 * Finds the store paths of named roots.
 *
 * @param options.wholeMaps true to include every path of the publishers' hash maps
 * @param options.mapBudget limit on the NARs that are taken from each of those hash maps
 * @throws ROOT_UNKNOWN for a name that no hash map has; INDEX_UNREACHABLE …; the signal's reason
 */
export async function resolveRoots(
  named: readonly NamedRoot[],
  maps: HashMaps,
  {
    wholeMaps,
    mapBudget = { maxBytes: Infinity },
    signal,
  }: { readonly wholeMaps: boolean; readonly mapBudget?: MapBudget | undefined; readonly signal: AbortSignal },
): Promise<Roots> {
  const names = new Map<StoreHash, string>();
  const paths: StorePath[] = [];
  for (const { text, known } of named) {
    const root = known ?? { path: await maps.root(text) };
    if ('path' in root) paths.push(root.path);
    names.set('path' in root ? storeHashOf(root.path) : root.hash, text);
  }
  if (!wholeMaps) return { names, paths, outsized: undefined };
  const { hashes, leftOut, beyond } = await maps.storeHashes(mapBudget, signal);
  for (const hash of hashes) names.set(hash, hash);
  return { names, paths, outsized: beyond.paths === 0 ? undefined : { roots: leftOut, ...beyond } };
}

/** Returns the store path or hash part that a text is. Undefined if it can only be the name of a root. */
function asStorePath(text: string): NamedRoot['known'] {
  if (text.includes('/')) return { path: parseStorePath(text) };
  try {
    return { hash: parseStoreHash(text) };
  } catch {
    return undefined;
  }
}
