/** The order in which paths are best imported, and so fetched. */
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeHashOf } from '../../nix/store-path.ts';
import { referencesFirst, type Closure } from '../walk/closure.ts';

/**
 * Orders paths by the bytes of NARs on the longest way from each to a path that nothing refers to: the imports that
 * wait for it take longest. So references come first.
 *
 * @returns the place of each path, from 0 to 1: the part of all bytes of NARs that come before it
 */
export function placesOf(closure: Closure): Map<StoreHash, number> {
  const weights = new Map<StoreHash, number>();
  for (const info of referencesFirst(closure).toReversed()) {
    const hash = storeHashOf(info.storePath);
    const weight = (weights.get(hash) ?? 0) + info.narSize;
    weights.set(hash, weight);
    for (const name of info.references) {
      const other = hashIn(name);
      if (other !== hash && weight > (weights.get(other) ?? 0)) weights.set(other, weight);
    }
  }
  const order = [...closure].toSorted(([a], [b]) => (weights.get(b) ?? 0) - (weights.get(a) ?? 0));
  const total = order.reduce((sum, [, { narSize }]) => sum + narSize, 0);
  const places = new Map<StoreHash, number>();
  let before = 0;
  for (const [hash, { narSize }] of order) {
    places.set(hash, before / total);
    before += narSize;
  }
  return places;
}

/**
 * Returns those of some paths that can be imported together: their references are valid or among them.
 *
 * @param inOrder references first
 */
export function importableNow<T extends { readonly info: Pick<NarInfo, 'storePath' | 'references'> }>(
  inOrder: readonly T[],
  valid: ReadonlySet<StoreHash>,
): T[] {
  const taken = new Set<StoreHash>();
  return inOrder.filter(({ info }) => {
    const hash = storeHashOf(info.storePath);
    const isThere = (other: StoreHash): boolean => other === hash || valid.has(other) || taken.has(other);
    if (!info.references.map(hashIn).every(isThere)) return false;
    taken.add(hash);
    return true;
  });
}

/** Returns the hash in a reference, which is the name of a store path. */
export function hashIn(name: string): StoreHash {
  return parseStoreHash(name.slice(0, 32));
}
