import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import { isAddressedBesideNarHash } from '../../nix/content-address.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { PartialNar } from '../../store/partial.ts';
import type { PartialSession } from '../../store/session.ts';
import { extensionOf, type NarTorrent } from '../../torrent/canonical.ts';
import type { Network } from '../../swarm/network.ts';
import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { fetchByContents } from './by-contents.ts';
import type { Candidates } from '../walk/candidates.ts';
import type { Closure } from '../walk/closure.ts';
import { FetchedContents, lackOfContents, type LooksInto } from './fetched-contents.ts';
import type { HeadStart } from './head-start.ts';
import type { HeldNars } from '../../serve/held-nars.ts';
import type { HurriedNars } from './hurried-nars.ts';
import { fetchPatches } from './fetch-patches.ts';
import type { NarJob } from '../plan/job.ts';
import type { Plan } from '../plan/plan.ts';
import type { Tell } from '../events.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import type { UpstreamOrder } from '../scheduler/upstream-order.ts';

/** Means of fetching NARs. */
export interface RoundContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly upstreams: readonly Upstream[];
  /** The order of these upstreams, for the whole run. */
  readonly order: UpstreamOrder;
  readonly keys: readonly PublicKey[];
  readonly limit?: DirectionLimit | undefined;
  /** As in a scheduler (scheduler-options.ts). Default: never. */
  readonly isHeldBack?: (() => boolean) | undefined;
  /** Without an upstream: time without a byte from any peer until giving up, in milliseconds. Default 60,000. */
  readonly peerTimeoutMs?: number | undefined;
  readonly candidates: Candidates;
  /** Returns the torrent of a NAR, from a hash map. */
  readonly torrentOf: (info: NarInfo) => Promise<NarTorrent | undefined>;
  /** Resolves once torrents can be looked up without waiting. Undefined: they can now. */
  readonly torrentsLate?: (() => Promise<unknown>) | undefined;
  /**
   * Limit on the bytes that are decompressed before this ends. Undefined: nothing, since an import checks everything.
   */
  readonly contents?: LooksInto | undefined;
  /** False to fetch only the files that narinfos name. Default: true. */
  readonly mayBeUncompressed?: boolean | undefined;
  readonly held?: HeldNars | undefined;
  /** Returns the place of a NAR in the import, from 0 for the first to 1. Undefined: the order does not matter. */
  readonly placeOf?: ((job: NarJob) => number) | undefined;
  /** The NARs that come before all others. May grow and shrink meanwhile. */
  readonly hurried?: HurriedNars | undefined;
  /** Called with each NAR that begins to arrive. */
  readonly onBegun?: ((info: NarInfo, partial: PartialNar) => void) | undefined;
  /** Called with narinfos as soon as their NAR is in the store; without `job` if its size was unknown. */
  readonly onFetched?: ((infos: readonly NarInfo[], job?: NarJob) => void) | undefined;
  readonly tell: Tell;
  readonly signal: AbortSignal;
}

/** Result of one plan. */
export interface Round {
  /** NARs that are here, each with its actual file, by the hash of its path. */
  readonly infos: ReadonlyMap<StoreHash, NarInfo>;
  /** The NARs that were fetched or read, with their torrents. */
  readonly jobs: readonly NarJob[];
  /** Paths whose NAR was checked against NarHash. */
  readonly checked: readonly StorePath[];
  /** Failures of all other paths; after an interruption also those that were left out. */
  readonly failures: ReadonlyMap<StorePath, unknown>;
}

/**
 * Fetches the NARs of a plan, each as its narinfo says, from peers and upstreams at once.
 *
 * @param headStart fetches NARs of the plan already. Default: none is begun
 * @throws STORE_FULL, STORE_UNWRITABLE at once
 */
export async function fetchRound(
  plan: Plan,
  closure: Closure,
  context: RoundContext,
  headStart?: HeadStart,
): Promise<Round> {
  const { candidates, tell, signal, upstreams, order, held } = context;
  await using contents =
    context.contents === undefined ? undefined : new FetchedContents(context.contents, tell, signal);
  await using ofDisputed = new FetchedContents('all', tell, signal);
  const disputed = disputedPaths(plan);
  const receiver = { placeOf: context.placeOf, onBegun: context.onBegun, onFetched: take };
  const scheduler: Scheduler =
    headStart?.scheduler ?? new Scheduler({ ...context, standstillMs: context.peerTimeoutMs, ...receiver });
  function lookInto(job: NarJob): void {
    const path = scheduler.pathOf(job);
    if (disputed.has(job.info.storePath)) ofDisputed.add(job, path, closure);
    else contents?.add(job, path, closure);
  }
  function take(job: NarJob): void {
    lookInto(job);
    if (disputed.has(job.info.storePath)) return; // of one of its paths, the contents are wrong
    const infos = job.storePaths.flatMap((path) => closure.get(storeHashOf(path)) ?? []);
    context.onFetched?.(
      infos.map((info) => scheduler.asFetched(info)),
      job,
    );
  }
  for (const nar of plan.verified) {
    const { torrent, info, fileHash, sizeBytes } = nar;
    held?.add({ fileHash, sizeBytes, torrent, path: scheduler.pathOf(nar), info, isOfMembers: false });
    lookInto(nar);
  }
  const attached = context.torrentsLate?.().then(() => scheduler.attach(context.torrentOf));
  attached?.catch(() => undefined); // a failed hash map only causes a warning
  const upstreamsOf = (info: NarInfo): readonly Upstream[] => {
    const own = candidates.originOf(storeHashOf(info.storePath))?.upstream;
    return own === undefined ? upstreams : [own];
  };
  const byContents = fetchByContents(plan.unsized, {
    ...context,
    upstreamsOf,
    givesWay: upstreams.length > 1,
    onLie: (upstream) => order.noteLie(upstream),
  });
  byContents.catch(() => undefined); // awaited below
  let failure: unknown;
  const made = new Map<NarJob, NarInfo>();
  const patched: NarJob[] = [];
  const planned = new Set(plan.jobs);
  const patches = new Map([...plan.patches].filter(([job]) => planned.has(job))); // a step has some of the jobs
  const whole = plan.jobs.filter((job) => !patches.has(job));
  const stop = new AbortController();
  const patching =
    patches.size === 0
      ? undefined
      : fetchPatches(patches, {
          ...context,
          signal: AbortSignal.any([signal, stop.signal]),
          onMade: (job, info, torrent) => {
            made.set(job, info);
            patched.push({ ...job, ...torrent, extension: extensionOf(info.compression), info, torrent });
            context.onFetched?.(job.storePaths.flatMap((path) => asMade(closure.get(storeHashOf(path)), info)));
          },
          onFailed: (job) => scheduler.add([job]),
        });
  patching?.catch(() => undefined); // awaited below
  const mayGrow = patching !== undefined;
  if (headStart === undefined) void patching?.catch(() => undefined).then(() => scheduler.noMore());
  const fetching = headStart?.finish(whole, receiver, patching) ?? scheduler.run(whole, signal, { mayGrow });
  await fetching.catch(async (error: unknown) => {
    if (!isNarswarmError(error, 'NAR_UNAVAILABLE', 'INTERRUPTED')) {
      stop.abort(error); // nothing is written after the end
      await patching?.catch(() => undefined);
      throw error;
    }
    failure = error;
  });
  await patching?.catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  const { completed, failures: unfit } = await byContents;

  const failures = new Map<StorePath, unknown>(unfit);
  const infos = new Map(Array.from(completed, ([path, info]) => [storeHashOf(path), info]));
  for (const { storePath } of plan.unsized)
    if (!completed.has(storePath) && !failures.has(storePath)) failures.set(storePath, notBegun(storePath));
  for (const [job, info] of made)
    for (const path of job.storePaths)
      for (const one of asMade(closure.get(storeHashOf(path)), info)) infos.set(storeHashOf(path), one);
  for (const job of plan.jobs.filter((one) => !made.has(one))) {
    const hasFetched = scheduler.hasFetched(job);
    for (const path of job.storePaths) {
      const info = closure.get(storeHashOf(path));
      if (!hasFetched) failures.set(path, scheduler.failureOf(job) ?? (signal.aborted ? notBegun(path) : failure));
      else if (info !== undefined) infos.set(storeHashOf(path), scheduler.asFetched(info));
    }
  }
  const named = new Set(Array.from(completed.values(), ({ fileHash }) => fileHash));
  const readers = contents === undefined ? [ofDisputed] : [ofDisputed, contents];
  const looked = await Promise.all(readers.map((one) => one.finish(plan.verified, named)));
  const sound = looked.flatMap((one) => one.sound);
  const wrong = looked.flatMap((one) => one.wrong);
  if (signal.aborted) {
    for (const path of disputed) {
      infos.delete(storeHashOf(path));
      failures.set(path, notBegun(path)); // its contents may not have been read
    }
  }
  for (const { storePath } of sound) held?.noteSound(storePath);
  for (const one of wrong) {
    const hash = storeHashOf(one.info.storePath);
    const origin = candidates.originOf(hash);
    order.noteLie(origin?.upstream);
    infos.delete(hash);
    failures.set(one.info.storePath, lackOfContents(one, origin?.name));
  }
  const ofPatches = [...made.values()].filter((info) => !isAddressedBesideNarHash(info));
  const byNarHash = [...completed.values()].filter((info) => !isAddressedBesideNarHash(info));
  return {
    infos,
    jobs: [...plan.verified, ...patched, ...plan.jobs.filter((job) => scheduler.hasFetched(job))],
    checked: [...byNarHash, ...sound, ...ofPatches].map(({ storePath }) => storePath),
    failures,
  };
}

/** Returns the narinfo of a path, with the file of its NAR that was made. */
function asMade(info: NarInfo | undefined, { url, compression, fileHash, fileSize }: NarInfo): NarInfo[] {
  if (info === undefined || fileHash === undefined || fileSize === undefined) return [];
  return [{ ...info, url, compression, fileHash, fileSize }];
}

/** Returns the paths of which only the contents of a file show whether it is theirs. */
export function disputedPaths({ jobs, verified }: Plan): ReadonlySet<StorePath> {
  return new Set([...jobs, ...verified].filter((job) => job.isDisputed === true).flatMap((job) => job.storePaths));
}

/** The failure of a path whose NAR was still to come when the run was told to stop. */
export function notBegun(path: StorePath): NarswarmError {
  return new NarswarmError('INTERRUPTED', 'its NAR was not complete before the interruption', { facts: { path } });
}
