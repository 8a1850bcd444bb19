import { Heap } from './heap.ts';
import type { Kept } from './keep.ts';
import { PRESENT, type StoreGraph } from './store-graph.ts';

/** The paths to remove, in order: each path before its references. */
export interface Eviction {
  readonly paths: readonly number[];
  /** 1 for each NAR, by its number, that is removed along with its last narinfo. */
  readonly nars: Uint8Array;
  readonly narCount: number;
  readonly bytes: number;
}

/** Returns an eviction that removes nothing. */
export function noEviction(graph: StoreGraph): Eviction {
  return { paths: [], nars: new Uint8Array(graph.narCount), narCount: 0, bytes: 0 };
}

export interface EvictionAim {
  /** Bytes to free, if possible. */
  readonly excessBytes: number;
  /** 1 for each path that is no longer wanted: it is removed in any case, unless something keeps it. */
  readonly forgotten?: Uint8Array | undefined;
  /** Names of NARs that no other machine holds: they are removed last. Default: none. */
  readonly sole?: ReadonlySet<string> | undefined;
  /** True to keep forgotten NARs of `sole` as long as enough bytes are free. Default: false. */
  readonly keepsForgottenSole?: boolean;
  /** 1 for each path that is removed before others, unless no other machine holds its NAR. Default: none. */
  readonly first?: Uint8Array | undefined;
  /** 1 for each path that is removed only after all others, to free bytes. Default: none. */
  readonly yielding?: Uint8Array | undefined;
}

/** Later than any time at which a NAR can have been used. */
const LATER_MS = 1e14;
/** Later than any NAR that is not spared. */
const SPARED_MS = 10 * LATER_MS;
/** Later than any spared NAR. */
const YIELDING_MS = 3 * SPARED_MS;

/**
 * Chooses the paths to remove. None is kept or referred to by a remaining narinfo, so closures are removed from the
 * top. Chooses all forgotten paths. Then, until enough bytes are free, chooses in this order: paths without a NAR; NARs
 * of `first`; other NARs; NARs that no other machine is known to hold; yielding paths. Within each kind, the paths
 * that were last served longest ago come first.
 */
export function chooseEviction(graph: StoreGraph, kept: Kept, aim: EvictionAim): Eviction {
  const { excessBytes, forgotten, sole, keepsForgottenSole = false, first, yielding } = aim;
  const spared = new Set(Array.from(sole ?? [], (name) => graph.narNumberOf(name)));
  const rankOf = (nar: number): number => (spared.has(nar) ? SPARED_MS : 0) + graph.narUsedAtMs(nar);
  const yields = (path: number): boolean => yielding?.[path] === 1;
  const isFirst = (path: number): boolean => first?.[path] === 1 || graph.narBytes(graph.narOf(path)) < 0;
  const paths: number[] = [];
  const chosen = { ...noEviction(graph), paths };
  const gone = new Uint8Array(graph.pathCount);
  const users = new Int32Array(graph.narCount);
  const referrers = new Int32Array(graph.pathCount);
  for (let path = 0; path < graph.pathCount; path++) {
    for (const other of graph.references(path)) add(referrers, other, 1);
    const nar = graph.narOf(path);
    if (nar >= 0) add(users, nar, 1);
  }
  const evict = (isWanted: (path: number) => boolean, isEnough: (nar: number) => boolean): void => {
    const heap = new Heap();
    const offer = (path: number): void => {
      const isTop = kept.paths[path] !== 1 && graph.state(path) === PRESENT && referrers[path] === 0;
      if (isTop && gone[path] !== 1 && isWanted(path))
        heap.push(path, (yields(path) ? YIELDING_MS : 0) + (isFirst(path) ? 0 : LATER_MS) + rankOf(graph.narOf(path)));
    };
    for (let path = 0; path < graph.pathCount; path++) offer(path);
    for (let path = heap.pop(); path !== undefined; path = heap.pop()) {
      const nar = graph.narOf(path);
      if (isEnough(nar)) break;
      gone[path] = 1;
      paths.push(path);
      if (add(users, nar, -1) === 0 && kept.nars[nar] !== 1 && graph.narBytes(nar) >= 0) {
        chosen.nars[nar] = 1;
        chosen.narCount++;
        chosen.bytes += graph.narBytes(nar);
      }
      for (const other of graph.references(path)) {
        add(referrers, other, -1);
        offer(other);
      }
    }
  };
  if (forgotten !== undefined)
    evict(
      (path) => forgotten[path] === 1 && !yields(path) && !(keepsForgottenSole && spared.has(graph.narOf(path))),
      () => false,
    );
  if (excessBytes > chosen.bytes)
    evict(
      () => true,
      // a narinfo without its NAR is useless
      (nar) => chosen.bytes >= excessBytes && graph.narBytes(nar) >= 0,
    );
  return chosen;
}

function add(counts: Int32Array, at: number, more: number): number {
  return (counts[at] = (counts[at] ?? 0) + more);
}
