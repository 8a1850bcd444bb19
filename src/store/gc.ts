import { NarswarmError } from '../errors.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from './catalogue/catalogue.ts';
import { isOnlyOfNix } from './catalogue/catalogue-entry.ts';
import { readClaims, type Claim } from './claims.ts';
import { chooseEviction, noEviction, type Eviction } from './collect/evict.ts';
import { keepOthers, markKept, reach, type Kept, type Root } from './collect/keep.ts';
import { removeLeftovers, type Leftovers } from './collect/leftovers.ts';
import { removeUnwantedPartials } from './collect/partials.ts';
import { countReleased, release, type ReleaseContext, type Released, type Releasing } from './collect/release.ts';
import { scanStore } from './collect/scan.ts';
import { PRESENT, type StoreGraph } from './collect/store-graph.ts';
import { sweep, type RemovedPath } from './collect/sweep.ts';
import { yieldsOf, type Yield } from './collect/yields.ts';
import { compactCatalogue } from './catalogue/compact-catalogue.ts';
import type { FileStore } from './file-store.ts';
import { PatchList } from './patch-list.ts';
import { readReplicas, soleNars } from './replicas.ts';
import { removeStrayRealisations } from './realisations.ts';
import { Turn } from './turn.ts';
import type { Obstacle, Warn } from '../warning.ts';

export interface GcOptions {
  readonly store: FileStore;
  /** Returns the roots to keep. Called when no process can start to rely on other paths. */
  readonly roots: () => Promise<readonly Root[]>;
  /**
   * Store hashes that are no longer wanted. Their closures are removed even within the budget, unless something else
   * keeps them.
   */
  readonly forgotten?: readonly string[] | undefined;
  /** Limit for the bytes of all NARs. Undefined: no complete path is removed. */
  readonly maxBytes: number | undefined;
  /**
   * If given, only these paths are removed, and only beyond their limit, with narinfos without a NAR. Paths that
   * another path or a root needs stay.
   */
  readonly limited?: LimitedPaths | undefined;
  /** NARs that may go since the Nix store has their paths. They go before any path is removed. Default: none. */
  readonly releasing?: Releasing | undefined;
  /** Keepers whose paths are removed if the budget is not met otherwise, unless something else keeps them. Default: none. */
  readonly yielding?: Yielding | undefined;
  /**
   * Names of the partial files that subscriptions want. If NARs and partial files exceed the budget, others are
   * removed. Undefined if they are not known: all are kept for their time.
   */
  readonly wantedPartials?: ReadonlySet<string> | undefined;
  readonly dryRun: boolean;
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /** Called with each removed path; with `dryRun`, with each path that would be removed. */
  readonly onRemoved?: (removed: RemovedPath) => void;
  /** Called with each removed file that nothing needed; with `dryRun`, with each that would be removed. */
  readonly onLeftover?: (file: { readonly path: string; readonly bytes: number }) => void;
  /** Called now and then with the number of files read. */
  readonly onProgress?: (files: number) => void;
}

/** Paths with a limit of their own. */
export interface LimitedPaths {
  /** Returns their store hashes. Called after `roots`. */
  readonly storeHashes: () => Promise<ReadonlySet<string>>;
  /** Limit for the bytes of their NARs. */
  readonly maxBytes: number;
}

/** Keepers that give paths up. */
export interface Yielding {
  /** Names of the subscriptions. */
  readonly keepers: ReadonlySet<string>;
  /** Called before anything is removed, if some of them give paths up. Records their remaining roots. */
  readonly record: (yields: readonly Yield[]) => Promise<void>;
}

/** The result of a collection; with `dryRun`, the result that it would have. */
export interface GcResult {
  readonly removed: { readonly paths: number; readonly nars: number; readonly bytes: number };
  readonly leftovers: Leftovers;
  /** NAR files that went since the Nix store has their paths: these are still served. */
  readonly released: Released;
  /** The remaining paths and NARs. `bytes` counts all files in `nar/`. */
  readonly kept: { readonly paths: number; readonly nars: number; readonly bytes: number };
  /** NARs that no other machine is known to hold. */
  readonly sole: { readonly removed: number; readonly kept: number };
  /** The paths that subscriptions gave up for the budget, or would give up without `dryRun`. */
  readonly yields: readonly Yield[];
  /** Bytes that nothing keeps, and that a smaller budget could still free. */
  readonly reclaimableBytes: number;
  /** Reasons why nothing was evicted although the budget is exceeded. */
  readonly obstacles: readonly Obstacle[];
}

/**
 * Prunes the store to its budget. Keeps closures of roots, claims of running fetches, and NARs served in the last ten
 * minutes. Removes the others until the budget is met: first the paths that nobody but Nix has asked for, then the
 * least recently served. NARs without a known copy on another machine come last, followed by paths of yielding keepers. Always removes leftovers of crashes. Partial files
 * do not count against NARs: see {@link removeUnwantedPartials}.
 *
 * It is safe to kill this at any moment: see {@link sweep}. A fetch that begins meanwhile waits before it looks up the
 * store's contents.
 *
 * @throws STORE_BUSY if another collector is running; STORE_UNWRITABLE; the signal's reason
 */
export async function collectGarbage(options: GcOptions): Promise<GcResult> {
  const { store, dryRun, now, signal, maxBytes, limited, releasing } = options;
  await using stack = new AsyncDisposableStack();
  if (!dryRun) stack.use(await takeTurn(store));
  // Reads the claims first: an update makes roots of its claims before it drops them.
  const claims: Claim[] = [];
  for await (const claim of readClaims(store, now)) claims.push(claim);
  const roots = await options.roots();
  const limitedHashes = await limited?.storeHashes();
  const graph = await scanStore(store, signal, options.onProgress);
  const catalogue = await Catalogue.open(store);
  if (releasing !== undefined) countReleased(graph, catalogue, releasing.nars, now);
  const kept = markKept(graph, { roots, claims, now });
  if (limitedHashes !== undefined) keepOthers(graph, kept, limitedHashes);
  const [yielding, others] = partition(roots, ({ keeper = '' }) => options.yielding?.keepers.has(keeper) === true);

  const leftovers = await removeLeftovers(store, graph, kept, {
    dryRun,
    now,
    signal,
    onRemoved: (file) => options.onLeftover?.(file),
  });
  const held = count(graph);
  const startBytes = held.bytes - leftovers.narBytes;
  const sole = soleNars(await readReplicas(store, now));
  const context = { store, catalogue, graph, kept, roots, claims, sole, dryRun, now, signal };
  const released = await releaseFirst(options, context, startBytes);
  const totalBytes = startBytes - released.bytes;
  const mayEvict = kept.obstacles.length === 0;
  const removable = chooseEviction(graph, kept, { excessBytes: Infinity });
  const all = mayEvict ? removable : noEviction(graph);
  const excessBytes = excessOf({ maxBytes, limited }, { totalBytes, removableBytes: removable.bytes });
  const forgotten = options.forgotten && reach(graph, options.forgotten);
  const first = onlyOfNix(graph, catalogue);
  const aim = { excessBytes, forgotten, sole, keepsForgottenSole: maxBytes !== undefined, first };
  let chosen = mayEvict ? chooseEviction(graph, kept, aim) : noEviction(graph);
  let yields: readonly Yield[] = [];
  if (mayEvict && chosen.bytes < excessBytes && yielding.length > 0) {
    const bare = markKept(graph, { roots: others, claims, now });
    chosen = chooseEviction(graph, bare, { ...aim, yielding: reach(graph, yielding.map(hashOf)) });
    yields = await yieldsOf(yielding, { graph, chosen, store });
    if (!dryRun && yields.length > 0) await options.yielding?.record(yields);
  }
  if (!mayEvict && (excessBytes > 0 || forgotten !== undefined)) warnOfObstacles(kept, options);
  try {
    await sweep(store, graph, chosen, { dryRun, sole, signal, onRemoved: (removed) => options.onRemoved?.(removed) });
  } finally {
    if (!dryRun) await compactCatalogue(store);
    if (!dryRun) await new PatchList(store).compact();
  }
  const keptBytes = totalBytes - chosen.bytes;
  const partials = await removePartials(options, keptBytes);
  if (!dryRun) await removeStrayRealisations(store);
  return {
    removed: { paths: chosen.paths.length, nars: chosen.narCount, bytes: chosen.bytes },
    leftovers: {
      files: leftovers.files + partials.files,
      bytes: leftovers.bytes + partials.bytes,
      narBytes: leftovers.narBytes,
    },
    released,
    kept: { paths: held.paths - chosen.paths.length, nars: held.nars - chosen.narCount, bytes: keptBytes },
    sole: countSole(graph, chosen, sole),
    yields,
    reclaimableBytes: Math.max(0, all.bytes - chosen.bytes),
    obstacles: kept.obstacles,
  };
}

async function releaseFirst(
  { releasing, maxBytes, onWarning }: GcOptions,
  context: Omit<ReleaseContext, 'excessBytes' | 'onWarning'>,
  startBytes: number,
): Promise<Released> {
  if (releasing === undefined) return { nars: 0, bytes: 0 };
  const excessBytes = maxBytes === undefined ? 0 : startBytes - maxBytes;
  return release(releasing, { ...context, excessBytes, onWarning });
}

function excessOf(
  { maxBytes, limited }: Pick<GcOptions, 'maxBytes' | 'limited'>,
  { totalBytes, removableBytes }: { readonly totalBytes: number; readonly removableBytes: number },
): number {
  if (limited !== undefined) return removableBytes - limited.maxBytes;
  return maxBytes === undefined ? 0 : totalBytes - maxBytes;
}

/** Removes unwanted partial files if NARs of this size leave too little of the budget to them. */
async function removePartials(
  { store, wantedPartials: wanted, maxBytes, dryRun, now, signal, onLeftover }: GcOptions,
  narBytes: number,
): Promise<{ files: number; bytes: number }> {
  if (wanted === undefined || maxBytes === undefined) return { files: 0, bytes: 0 };
  return removeUnwantedPartials(store, {
    wanted,
    freeBytes: maxBytes - narBytes,
    dryRun,
    now,
    signal,
    onRemoved: (file) => onLeftover?.(file),
  });
}

/** Returns 1 for each path that nobody but Nix has asked for. */
function onlyOfNix(graph: StoreGraph, catalogue: Catalogue): Uint8Array {
  const marks = new Uint8Array(graph.pathCount);
  for (const entry of catalogue.entries()) {
    const path = isOnlyOfNix(entry) ? graph.knownNumber(storeHashOf(entry.storePath)) : -1;
    if (path >= 0) marks[path] = 1;
  }
  return marks;
}

function hashOf({ storePath }: Root): string {
  return storeHashOf(storePath);
}

function partition<T>(items: readonly T[], fits: (item: T) => boolean): [fitting: T[], rest: T[]] {
  return [items.filter(fits), items.filter((item) => !fits(item))];
}

async function takeTurn(store: FileStore): Promise<Turn> {
  const taken = await Turn.take(store, 'collecting');
  if (taken instanceof Turn) return taken;
  throw new NarswarmError('STORE_BUSY', `another narswarm gc is running on ${store.dir}: run this one after it`, {
    facts: { path: store.dir, owner: taken },
  });
}

function warnOfObstacles(kept: Kept, { onWarning }: GcOptions): void {
  for (const obstacle of kept.obstacles) onWarning({ kind: 'nothing-evicted', obstacle });
}

function countSole(graph: StoreGraph, { nars }: Eviction, sole: ReadonlySet<string>): GcResult['sole'] {
  const counts = { removed: 0, kept: 0 };
  for (const name of sole) {
    const nar = graph.narNumberOf(name);
    if (nar >= 0 && graph.narBytes(nar) >= 0) counts[nars[nar] === 1 ? 'removed' : 'kept']++;
  }
  return counts;
}

function count(graph: StoreGraph): { paths: number; nars: number; bytes: number } {
  const sum = { paths: 0, nars: 0, bytes: 0 };
  for (let path = 0; path < graph.pathCount; path++) if (graph.state(path) === PRESENT) sum.paths++;
  for (let nar = 0; nar < graph.narCount; nar++) {
    if (graph.narBytes(nar) < 0) continue;
    sum.nars++;
    sum.bytes += graph.narBytes(nar);
  }
  return sum;
}
