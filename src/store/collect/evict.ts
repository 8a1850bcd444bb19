import { Column } from '../key-table.ts';
import { Heap } from './heap.ts';
import type { Kept } from './keep.ts';
import { PRESENT, type StoreGraph } from './store-graph.ts';

/** What goes, in the order in which it goes: each path before what it refers to. */
export interface Eviction {
  readonly paths: Column<Int32Array>;
  readonly pathCount: number;
  /** 1 for each NAR, by its number, that goes with the last narinfo that names it. */
  readonly nars: Uint8Array;
  readonly narCount: number;
  readonly bytes: number;
}

/** Nothing goes. */
export function noEviction(graph: StoreGraph): Eviction {
  return {
    paths: new Column(Int32Array),
    pathCount: 0,
    nars: new Uint8Array(graph.narCount),
    narCount: 0,
    bytes: 0,
  };
}

/**
 * Chooses what goes so that at least `excessBytes` become free, as far as that can be had. Only paths go that are not
 * kept and that no remaining narinfo refers to, so closures go from the top; of those first whose NAR was not served for
 * longest, or where it never was, has been here for longest; what has no NAR at all goes before that.
 */
export function chooseEviction(graph: StoreGraph, kept: Kept, excessBytes: number): Eviction {
  const chosen = { ...noEviction(graph) };
  const users = new Column(Int32Array);
  const referrers = new Column(Int32Array);
  for (let path = 0; path < graph.pathCount; path++) {
    for (const other of graph.references(path)) referrers.add(other, 1);
    const nar = graph.narOf(path);
    if (nar >= 0) users.add(nar, 1);
  }
  const heap = new Heap();
  const offer = (path: number): void => {
    const mayGo = kept.paths[path] !== 1 && graph.state(path) === PRESENT && referrers.get(path) === 0;
    if (mayGo) heap.push(path, graph.narUsedAtMs(graph.narOf(path)));
  };
  for (let path = 0; path < graph.pathCount; path++) offer(path);
  for (let path = heap.pop(); path !== undefined; path = heap.pop()) {
    const nar = graph.narOf(path);
    if (chosen.bytes >= excessBytes && graph.narBytes(nar) >= 0) break; // a narinfo alone is of use to nobody
    chosen.paths.set(chosen.pathCount++, path);
    if (users.add(nar, -1) === 0 && kept.nars[nar] !== 1 && graph.narBytes(nar) >= 0) {
      chosen.nars[nar] = 1;
      chosen.narCount++;
      chosen.bytes += graph.narBytes(nar);
    }
    for (const other of graph.references(path)) {
      referrers.add(other, -1);
      offer(other);
    }
  }
  return chosen;
}
