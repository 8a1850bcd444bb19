import type { FileHash, StorePath } from '../../nix/brands.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { lineRateOf } from './line-rate.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import { forDryRun } from '../../store/claims.ts';
import { FileStore } from '../../store/file-store.ts';
import type { PartialSession } from '../../store/session.ts';
import type { NarTorrent } from '../../torrent/canonical.ts';
import type { Candidates } from '../walk/candidates.ts';
import { claimClosure } from './claim-closure.ts';
import { pathsOf, type Closure } from '../walk/closure.ts';
import type { Tell } from '../events.ts';
import type { HashMaps } from '../sources/hash-maps.ts';
import type { HeadStart } from '../download/head-start.ts';
import type { NarJob } from './job.ts';
import { lostOf } from './lost-nars.ts';
import type { BasePlaces } from './bases.ts';
import { choosePatches } from './patch-choice.ts';
import { asHeld, attachTorrents, planFetch, withPatches, type Plan } from './plan.ts';
import type { ReleasedNars } from './released-nars.ts';
import type { Target } from './target.ts';

/** The inputs of a plan. */
export interface PlanningMeans {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Tells which NARs are needed. Undefined if the store should hold everything. */
  readonly target: Pick<Target, 'invalidPaths'> | undefined;
  /** Where bases of patches are looked for. Undefined: no patches are taken. */
  readonly bases: BasePlaces | undefined;
  readonly maps: HashMaps;
  readonly candidates: Candidates;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

export interface PlanningOptions {
  /** True to plan without claims. */
  readonly dryRun: boolean;
  /** NARs that are written again before they are planned. A dry run counts them as held. Default: none. */
  readonly released?: ReleasedNars | undefined;
  /** True to plan NARs again that the store has lost, even if the target has them. */
  readonly mendsLost: boolean;
  /** True if NARs can come from other sources than peers: then the wait for publishers is short. */
  readonly hasUpstream: boolean;
  /** NARs that are being fetched already. Default: none. */
  readonly headStart?: Pick<HeadStart, 'jobs' | 'keptBytes' | 'torrentsLate'> | undefined;
}

/** A plan and its inputs. */
export interface Planned {
  readonly plan: Plan;
  /** Bytes of each planned NAR that are held from earlier runs. */
  readonly begun: ReadonlyMap<FileHash, number>;
  /** Paths that the target lacks. Undefined: all. */
  readonly needed: ReadonlySet<StorePath> | undefined;
  /** Paths that the target holds, and whose NAR the store has lost. */
  readonly lost: ReadonlySet<string>;
  /** Resolves once torrents can be looked up without waiting. Undefined: they can now. */
  readonly torrentsLate: (() => Promise<unknown>) | undefined;
}

/**
 * Plans the fetch of a closure: asks the target for missing paths, claims held paths of the store, splits the paths,
 * and gives each NAR its torrent in a hash map.
 *
 * @throws STORE_UNWRITABLE; NIX_MISSING, NIX_FAILED; the signal's reason
 */
export async function makePlan(closure: Closure, means: PlanningMeans, options: PlanningOptions): Promise<Planned> {
  const { store, session, target, maps, candidates, tell, signal } = means;
  const needed = await target?.invalidPaths(pathsOf(closure));
  const claimed = options.dryRun ? forDryRun(closure) : await claimClosure(closure, means);
  const catalogue = await Catalogue.open(store);
  const lost: ReadonlySet<string> = options.mendsLost ? await lostOf(claimed, needed, { store, catalogue }) : new Set();
  const lacking = needed && new Set<string>([...needed, ...lost]);
  const cacheOf = (info: NarInfo): Upstream | undefined => candidates.cacheOf(info);
  const { headStart } = options;
  const all = await planFetch(claimed, {
    store,
    catalogue,
    needed: lacking,
    cacheOf,
    begun: headStart?.jobs,
    signal,
  });
  const rewritten = options.dryRun ? ((await options.released?.needed(closure, { store, target })) ?? []) : [];
  const whole = asHeld(all, new Set(rewritten.map(({ storePath }) => storePath)));
  const mayBeLate = options.hasUpstream && !options.dryRun;
  const rest = whole.jobs.filter(({ fileHash }) => headStart?.jobs.has(fileHash) !== true);
  const torrentsLate = (await attachInTime(rest, maps, { mayBeLate, signal })) ?? headStart?.torrentsLate;
  const keptOf = ({ fileHash, sizeBytes }: NarJob): number =>
    headStart?.keptBytes.get(fileHash) ?? session.leftoverBytes(fileHash, sizeBytes);
  const begun = new Map(whole.jobs.map((job) => [job.fileHash, keptOf(job)]));
  const patches =
    means.bases === undefined || torrentsLate !== undefined
      ? new Map()
      : await choosePatches(
          rest.filter(({ fileHash }) => begun.get(fileHash) === 0),
          {
            ...means.bases,
            deltasOf: (info) => maps.records.deltasOf(info, signal),
            lineRate: await lineRateOf(store),
          },
        );
  const plan = withPatches(whole, patches);
  if (!options.dryRun) tell({ type: 'downloading', ...notBegun(plan, headStart) }); // the plan is shown above these sums
  tell({ type: 'planned', plan, closure, partialBytes: [...begun.values()].reduce((sum, bytes) => sum + bytes, 0) });
  return { plan, begun, needed, lost, torrentsLate };
}

/** Returns the sum of the NARs that are to be fetched and that were not begun beside the walk. */
function notBegun(
  { jobs, unsized, patches }: Plan,
  headStart: Pick<HeadStart, 'jobs'> | undefined,
): { nars: number; bytes: number } {
  const rest = jobs.filter(({ fileHash }) => headStart?.jobs.has(fileHash) !== true);
  const bytesOf = (job: NarJob): number => patches.get(job)?.delta.torrent.sizeBytes ?? job.sizeBytes;
  return { nars: rest.length + unsized.length, bytes: rest.reduce((sum, job) => sum + bytesOf(job), 0) };
}

/**
 * Gives each job the torrent of its NAR in a hash map.
 *
 * @param options.mayBeLate true if NARs can come from elsewhere: then the wait for publishers is short
 * @returns a promise that resolves once torrents can be looked up without waiting. Undefined: all jobs have theirs
 */
export async function attachInTime(
  jobs: Plan['jobs'],
  maps: HashMaps,
  { mayBeLate, signal }: { readonly mayBeLate: boolean; readonly signal: AbortSignal },
): Promise<Planned['torrentsLate']> {
  let isLate = false;
  const torrentOf = (info: NarInfo): Promise<NarTorrent | undefined> => maps.records.torrentOf(info, signal);
  const attaching = attachTorrents(jobs, torrentOf, () => isLate); // waits for the publishers, if there is a job
  attaching.catch(() => undefined); // a late failure is ignored
  isLate = mayBeLate && jobs.length > 0 && (await maps.areLateFor(attaching));
  if (isLate) return () => maps.settled();
  await attaching;
  return undefined;
}
