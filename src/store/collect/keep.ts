import type { StorePath } from '../../nix/brands.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { Obstacle } from '../../warning.ts';
import type { Claim } from '../claims.ts';
import { BEING_SERVED_MS } from '../catalogue/last-served.ts';
import { ABSENT, DAMAGED, PRESENT, type StoreGraph } from './store-graph.ts';

/** Limit on reasons that are named one by one. */
const MAX_OBSTACLES = 10;

/** A path whose whole closure is kept. */
export interface Root {
  readonly storePath: StorePath;
  /** Name of the subscription that keeps it. Undefined if it is pinned. */
  readonly keeper: string | undefined;
  /** True if its closure is known to be complete; one that is still arriving may lack paths. */
  readonly isWhole: boolean;
}

/** The paths and NARs to keep. */
export interface Kept {
  /** 1 for each path to keep, by its number. */
  readonly paths: Uint8Array;
  /** 1 for each NAR, by its number, that a process has claimed, whether or not a narinfo names it. */
  readonly nars: Uint8Array;
  /** Reasons to evict nothing: the references of an unreadable narinfo are unknown. */
  readonly obstacles: readonly Obstacle[];
}

/** Marks the closures of the roots, of the claims of running processes, and of the served NARs. */
export function markKept(
  graph: StoreGraph,
  from: { readonly roots: Iterable<Root>; readonly claims: readonly Claim[]; readonly now: Date },
): Kept {
  // number all claims first: the marks below need the final count
  const claimed = from.claims.map(({ storeHash }) => graph.number(storeHash));
  const claimedNars = from.claims.flatMap(({ narName }) => (narName === undefined ? [] : graph.narNumber(narName)));
  const roots = Array.from(from.roots, (root) => ({ ...root, path: graph.number(storeHashOf(root.storePath)) }));
  const paths = new Uint8Array(graph.pathCount);
  const nars = new Uint8Array(graph.narCount);
  const obstacles = new Map<string, Obstacle>();
  const hinder = (obstacle: Obstacle): void => {
    if (obstacles.size < MAX_OBSTACLES) obstacles.set(JSON.stringify(obstacle), obstacle);
  };
  for (const nar of claimedNars) nars[nar] = 1;

  for (const { path, storePath, keeper, isWhole } of roots) {
    if (isWhole && graph.state(path) === ABSENT) hinder({ kind: 'lost-root', path: storePath, keeper });
  }
  const stack: number[] = [];
  const mark = (path: number): void => {
    if (paths[path] === 1) return;
    paths[path] = 1;
    stack.push(path);
  };
  for (const { path } of roots) mark(path);
  for (const path of claimed) mark(path);
  const servedSinceMs = from.now.getTime() - BEING_SERVED_MS;
  for (let path = 0; path < paths.length; path++) {
    const nar = graph.narOf(path);
    if (nar >= 0 && graph.servedAtMs(nar) > servedSinceMs) mark(path);
  }
  // A process that claims a path writes its missing parts.
  const isClaimed = new Set(claimed);
  const isOnItsWay = new Set([...claimed, ...roots.filter(({ isWhole }) => !isWhole).map(({ path }) => path)]);
  for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
    if (graph.state(path) === DAMAGED && !isClaimed.has(path))
      hinder({ kind: 'unreadable-narinfo', storeHash: graph.storeHash(path) });
    if (graph.state(path) !== PRESENT) continue;
    for (const other of graph.references(path)) {
      if (graph.state(other) === ABSENT && !isOnItsWay.has(other))
        hinder({ kind: 'lost-reference', storeHash: graph.storeHash(path), reference: graph.storeHash(other) });
      mark(other);
    }
  }
  return { paths, nars, obstacles: [...obstacles.values()] };
}

/** Returns 1 for each path, by its number, in the closures of these paths. */
export function reach(graph: StoreGraph, storeHashes: readonly string[]): Uint8Array {
  const reached = new Uint8Array(graph.pathCount);
  const stack = storeHashes.map((hash) => graph.knownNumber(hash)).filter((path) => path >= 0);
  for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
    if (reached[path] === 1) continue;
    reached[path] = 1;
    stack.push(...graph.references(path));
  }
  return reached;
}

/**
 * Keeps all paths with a NAR except some, and what they need. A narinfo without a NAR only describes a path that Nix
 * has.
 */
export function keepOthers(graph: StoreGraph, { paths }: Kept, except: ReadonlySet<string>): void {
  const others: string[] = [];
  for (let path = 0; path < graph.pathCount; path++) {
    const hash = graph.storeHash(path);
    if (graph.narBytes(graph.narOf(path)) >= 0 && !except.has(hash)) others.push(hash);
  }
  const reached = reach(graph, others);
  for (let path = 0; path < paths.length; path++) if (reached[path] === 1) paths[path] = 1;
}
