import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { Catalogue } from '../store/catalogue.ts';
import { claim } from '../store/claims.ts';
import { FileStore } from '../store/file-store.ts';
import type { PartialSession } from '../store/session.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Closure } from './closure.ts';
import type { Tell } from './events.ts';
import type { HashMaps } from './hash-maps.ts';
import { lostOf } from './lost-nars.ts';
import { namedFile } from './named-file.ts';
import { attachTorrents, planFetch, type Plan } from './plan.ts';
import type { Target } from './target.ts';

/** From the end of the walk on, the publishers have this long before upstreams begin without them. */
export const MAPS_GRACE_MS = 2_000;

/** What a plan is made of. */
export interface PlanningMeans {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Absent if nothing is imported, or if the store is to hold everything. */
  readonly target: Target | undefined;
  readonly maps: HashMaps;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

export interface PlanningOptions {
  /** Only looks: nothing is claimed. */
  readonly dryRun: boolean;
  /** Plans NARs again that the store held and has lost, even if the target has them. */
  readonly mendsLost: boolean;
  /** True if NARs can come from elsewhere than from peers: then publishers are not waited for long. */
  readonly hasUpstream: boolean;
}

/** A plan, and what it was made of. */
export interface Planned {
  readonly plan: Plan;
  /** Paths that the target lacks; undefined: all count as lacking. */
  readonly needed: ReadonlySet<StorePath> | undefined;
  /** Paths that the target holds, and whose NAR the store has lost. */
  readonly lost: ReadonlySet<string>;
  /** Resolves once torrents can be had without waiting; absent: they can now. */
  readonly torrentsLate: (() => Promise<unknown>) | undefined;
}

/**
 * Plans the fetch of a closure: asks the target what it lacks, claims what the store holds, sorts the paths, and gives each
 * NAR the torrent that a hash map has for it.
 *
 * @throws STORE_UNWRITABLE; NIX_MISSING, NIX_FAILED; the signal's reason
 */
export async function makePlan(closure: Closure, means: PlanningMeans, options: PlanningOptions): Promise<Planned> {
  const { store, target, maps, tell, signal } = means;
  const needed = await target?.invalidPaths(pathsOf(closure));
  if (!options.dryRun) await claimClosure(closure, means);
  const catalogue = await Catalogue.open(store);
  const lost: ReadonlySet<string> = options.mendsLost ? await lostOf(closure, needed, { store, catalogue }) : new Set();
  const lacking = needed && new Set<string>([...needed, ...lost]);
  const plan = await planFetch(closure, { store, catalogue, needed: lacking, signal });
  let isLate = false;
  const torrentOf = (info: NarInfo): Promise<NarTorrent | undefined> => maps.torrentOf(info, signal);
  const attaching = attachTorrents(plan.jobs, torrentOf, () => isLate); // waits for the publishers, if there is a job
  attaching.catch(() => undefined); // too late, it is news to nobody
  const mayBeLate = options.hasUpstream && !options.dryRun && plan.jobs.length > 0;
  isLate = await isSlow(attaching, mayBeLate);
  tell({ type: 'planned', plan, closure });
  return { plan, needed, lost, torrentsLate: isLate ? () => maps.settled() : undefined };
}

/** Claims paths that a fetch has come upon later. @returns those that the target lacks; undefined: all */
export async function claimMore(
  closure: Closure,
  means: Pick<PlanningMeans, 'store' | 'session' | 'target' | 'tell' | 'signal'>,
): Promise<ReadonlySet<StorePath> | undefined> {
  await claimClosure(closure, means);
  return means.target?.invalidPaths(pathsOf(closure));
}

/** Keeps the garbage collector from what this fetch is about to count on. */
async function claimClosure(
  closure: Closure,
  { store, session, tell, signal }: Pick<PlanningMeans, 'store' | 'session' | 'tell' | 'signal'>,
): Promise<void> {
  const claims = Array.from(closure, ([storeHash, info]) => {
    const file = namedFile(info);
    return { storeHash, narName: file && basename(FileStore.narUrl(file.fileHash, file.extension)) };
  });
  await claim(store, session, claims, { signal, onWait: () => tell({ type: 'waiting-for-gc' }) });
}

/**
 * True if the publishers take so long to answer, or their peers to give a shard, that upstreams had better begin: a fetch
 * must not be slower than plain Nix because nobody answers for a map. Torrents that are found later help with the rest.
 */
async function isSlow(attaching: Promise<void>, mayBeLate: boolean): Promise<boolean> {
  const attached = attaching.then(() => false);
  if (!mayBeLate) return attached;
  const stop = new AbortController();
  try {
    return await Promise.race([attached, sleep(MAPS_GRACE_MS, true, { signal: stop.signal })]);
  } finally {
    stop.abort();
  }
}

function pathsOf(closure: Closure): StorePath[] {
  return Array.from(closure.values(), ({ storePath }) => storePath);
}
