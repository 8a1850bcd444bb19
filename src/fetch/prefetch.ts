import type { NarswarmError } from '../errors.ts';
import type { Upstream } from '../http/upstream.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { entriesOf, noteChecked } from '../store/catalogue/note-checked.ts';
import { writeRealisations } from '../store/realisations.ts';
import { pathsOf, topsOf, walkClosure, type Closure, type MissingPath } from './walk/closure.ts';
import { CompletePaths } from './walk/complete-paths.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { CommitFeed } from './commit/commit-feed.ts';
import { Committer } from './commit/commit.ts';
import type { EarlyImport } from './import/early-import.ts';
import { FetchSources } from './sources/fetch-sources.ts';
import { fetchNars, type FetchNarsContext } from './download/fetch-nars.ts';
import { disputedPaths } from './download/fetch-round.ts';
import { Gathered, lackError } from './gathered.ts';
import { HeadStart, type HeadStartOptions } from './download/head-start.ts';
import { importGathered } from './import/import-gathered.ts';
import { withoutName } from './plan/named-file.ts';
import { openEarlyImport } from './import/open-early-import.ts';
import type { Plan } from './plan/plan.ts';
import { attachInTime, makePlan, type Planned, type PlanningMeans } from './plan/planning.ts';
import type { PrefetchContext, PrefetchOptions } from './prefetch-options.ts';
import type { PrefetchResult } from './prefetch-result.ts';
import { ReleasedNars } from './plan/released-nars.ts';
import { RealisationSearch } from './walk/realisation-search.ts';
import { readRoots, resolveRoots } from './walk/roots.ts';
import { fetchInSteps } from './stepped-fetch.ts';
import { UpstreamOrder } from './scheduler/upstream-order.ts';
import { walk, type Walked, type WalkOptions } from './walk/walk.ts';

/**
 * Fetches closures. Walks the closures of the roots, fetches missing NARs into the file store, writes the narinfos, and
 * imports them with `nix copy`.
 *
 * @throws NarswarmError of any kind; the signal's reason. Everything verified before is in the store.
 */
export async function prefetch(options: PrefetchOptions, context: PrefetchContext): Promise<PrefetchResult> {
  const { store, tell, signal } = context;
  const { dryRun = false, keepGoing = false, onlyRoots = false, room } = options;
  const named = readRoots(options.roots);
  await using stack = new AsyncDisposableStack();
  const sources = stack.use(await FetchSources.open(options, context));
  const { maps } = sources;
  const isAskedOfMaps = options.wholeMaps === true || named.some(({ known }) => known === undefined);
  if (isAskedOfMaps && options.publishers.length > 0)
    tell({ type: 'resolving', timeoutMs: options.publisherTimeoutMs });
  const roots = await resolveRoots(named, maps, {
    wholeMaps: options.wholeMaps === true,
    mapBudget: options.mapBudget,
    signal,
  });

  tell({ type: 'walking' });
  const writesReleased = options.writesReleased ?? (options.copy && options.to !== undefined);
  const released = writesReleased ? await ReleasedNars.open(store) : undefined;
  const headStart = headStartOf(options, context, sources, released);
  if (headStart !== undefined) stack.use(headStart);
  const walked = await walk(roots, sources, {
    onlyRoots,
    keepGoing,
    trustsStore: options.trustsStore === true,
    onNarInfo: onNarInfoOf(headStart, keepGoing),
    signal,
  });
  headStart?.end();
  for (const difference of sources.quorum?.differences ?? [])
    tell({ type: 'warning', warning: { kind: 'different-builds', difference } });
  const gathered = new Gathered(roots.names.keys(), walked.closure, walked.absent);
  const realisations = new RealisationSearch(gathered.closure, sources, dryRun || onlyRoots ? undefined : signal);

  if (options.copy && !dryRun && !onlyRoots)
    await options.beforeImport?.(topsOf(gathered.closure), [...roots.names.keys()]);

  const { wantedOf } = options;
  const target = wantedOf === undefined ? sources.target : { invalidPaths: wantedOf };
  const { candidates } = walked;
  const bases = takesPatches(options, context) ? { store, target: sources.target } : undefined;
  const planning: PlanningMeans = { store, session: context.session, target, bases, maps, candidates, tell, signal };
  const hasUpstream = sources.caches.length > 0;
  if (!dryRun) gathered.take((await released?.write(gathered.closure, planning)) ?? new Map(), new Map());
  const planned = await makePlan(gathered.closure, planning, {
    dryRun,
    released,
    mendsLost: keepGoing,
    hasUpstream,
    headStart,
  });
  const { plan } = planned;
  gathered.noteLost(planned.lost);
  // A narinfo in the store must not name a file that is not there.
  const nameless = plan.unheld.map((info) => [storeHashOf(info.storePath), withoutName(info)] as const);
  if (nameless.length > 0) gathered.take(new Map(nameless), new Map());
  const result = (imported: boolean, importFailure?: NarswarmError): PrefetchResult => ({
    closure: gathered.closure,
    plan,
    begun: planned.begun,
    roots: gathered.wholeRoots,
    imported,
    wanted: [...roots.names.keys()],
    missing: gathered.missing,
    isInterrupted: signal.aborted,
    importFailure,
    doubts: maps.doubts,
    differences: sources.quorum?.differences ?? [],
    outsized: roots.outsized,
  });
  await options.onPlanned?.(gathered.closure, plan, gathered.missing);
  if (dryRun) return result(false);

  const committer = new Committer(store);
  // Without an import, the contents of a NAR are checked before its narinfo is written.
  const feed = options.copy ? new CommitFeed(committer, { tell }) : undefined;
  feed?.add(notPlanned(gathered.closure, plan));
  const early = stack.use(await openEarlyImport(options, context, { closure: gathered.closure, planned, sources }));
  early?.add(plan.inStore);
  const found = { sources, walked, planned, planning, gathered, feed, early, headStart };
  const download = downloadContext(options, context, found);
  const fetching =
    room === undefined
      ? fetchNars(plan, gathered.closure, download, headStart)
      : fetchInSteps(roots, plan, download, {
          gathered,
          committer,
          room,
          makeRoom: (held) => room.make({ ...result(false), closure: held }),
        });
  // A later run does not fetch paths that Nix has imported. So their narinfos are written now.
  const fetched = await fetching.finally(() =>
    feed?.end({ commits: signal.aborted && (early?.imported.size ?? 0) > 0 }),
  );
  early?.noMore();
  if (!keepGoing) signal.throwIfAborted();
  gathered.take(fetched.closure, fetched.failures);

  if (plan.jobs.length + plan.unsized.length > 0) tell({ type: 'committing' });
  await committer.commit(gathered.closure, fetched.jobs);
  if (fetched.checked.length > 0) await noteChecked(store, await entriesOf(store, fetched.checked));
  await writeRealisations(await realisations.end(), store);

  const { imported, importFailure } = await importGathered(roots, planned, gathered, download, options, {
    early,
    target: sources.target,
  });
  if (!keepGoing && gathered.missing.length > 0) throw lackError(gathered.missing, plan);
  return result(imported, importFailure);
}

/** The results of the phases before the download, and the feed that takes those of the download. */
interface Found {
  readonly sources: FetchSources;
  readonly walked: Walked;
  readonly planned: Planned;
  readonly planning: PlanningMeans;
  readonly gathered: Gathered;
  /** Receives NARs while others are still arriving. Undefined if everything is committed at the end. */
  readonly feed: CommitFeed | undefined;
  readonly early: EarlyImport | undefined;
  readonly headStart: HeadStart | undefined;
}

/**
 * Returns true if patches may be taken, and there is somebody to give them. A mirror, and a store that serves all it holds, give
 * the files that the hash map names, so they take none.
 */
function takesPatches(
  { wholeMaps, holdAll, publishers }: PrefetchOptions,
  { deltas, network }: PrefetchContext,
): boolean {
  const hasSource = network !== undefined || publishers.some(({ baseUrl }) => baseUrl !== undefined);
  return deltas !== false && hasSource && wholeMaps !== true && holdAll !== true;
}

/**
 * Returns a function that gives found narinfos to the head start. With `keepGoing`, it gives only those of complete
 * paths: the others may refer to a missing path, and are then not fetched.
 */
function onNarInfoOf(headStart: HeadStart | undefined, keepGoing: boolean): WalkOptions['onNarInfo'] {
  if (headStart === undefined) return undefined;
  // Paths that are here or in the target need no NAR. If one does, the plan finds out why.
  const take: WalkOptions['onNarInfo'] = (info, source) =>
    source?.mayStall === true && headStart.take(info, source.upstream);
  if (!keepGoing) return take;
  const complete = new CompletePaths();
  return (info, source) => complete.take(info, () => take(info, source));
}

/**
 * Prepares the fetch of NARs beside the walk. Undefined where the whole plan is needed first: if not everything is
 * fetched, if somebody looks at the plan, or if each question to the target takes long. A whole hash map is walked
 * without round trips. Machines of one network update at the same moment: in the order of the walk, all would begin the
 * same NARs, which would cross the line more than once.
 */
function headStartOf(
  options: PrefetchOptions,
  context: PrefetchContext,
  sources: FetchSources,
  released: ReleasedNars | undefined,
): HeadStart | undefined {
  const { dryRun, onlyRoots, wholeMaps, room, wantedOf, onPlanned, peerTimeoutMs, earlyBytes } = options;
  const { store, session, network, http, limit, isHeldBack, held, tell, signal } = context;
  const { target, upstreams, maps } = sources;
  const leavesOut = onlyRoots === true || wholeMaps === true || room !== undefined || wantedOf !== undefined;
  const sharesLine = options.keepGoing === true && network?.discovery.mayMeetNeighbours === true;
  const needsPlan = dryRun === true || leavesOut || sharesLine || onPlanned !== undefined;
  if (needsPlan || target?.isRemote === true || upstreams.length === 0) return undefined;
  const caches = (): readonly Upstream[] => sources.caches;
  const attach: HeadStartOptions['attach'] = (jobs) => attachInTime(jobs, maps, { mayBeLate: true, signal });
  const mayPatch = takesPatches(options, context) ? (info: NarInfo): boolean => maps.records.mayPatch(info) : undefined;
  const means = {
    store,
    session,
    network,
    http,
    limit,
    isHeldBack,
    held,
    target,
    caches,
    attach,
    mayPatch,
    released,
    tell,
    signal,
  };
  return new HeadStart({ ...means, standstillMs: peerTimeoutMs, maxBytes: earlyBytes });
}

function downloadContext(options: PrefetchOptions, context: PrefetchContext, found: Found): FetchNarsContext {
  const { sources, walked, planned, planning, gathered, feed, early, headStart } = found;
  const { store, session, network, http, keys, limit, isHeldBack, held, tell, signal } = context;
  const { looksInto = 'small' } = options;
  const upstreams = sources.caches;
  return {
    store,
    session,
    network,
    http,
    keys,
    limit,
    isHeldBack,
    held,
    tell,
    signal,
    upstreams,
    order: headStart?.order ?? new UpstreamOrder(upstreams),
    peerTimeoutMs: options.peerTimeoutMs,
    candidates: walked.candidates,
    torrentOf: (info) => sources.maps.records.torrentOf(info, signal),
    torrentsLate: planned.torrentsLate,
    contents: looksInto === 'nothing' || options.copy ? undefined : looksInto,
    placeOf: early && (({ info }) => early.placeOf(info)),
    onBegun: early && ((info, partial) => early.follow(info, partial)),
    onFetched:
      feed &&
      ((infos, job) => {
        feed.add(infos, job);
        early?.add(infos);
      }),
    extend: async (hashes, known) => {
      const onMissing = (hash: StoreHash, lack: MissingPath): void => gathered.lack(hash, lack);
      const wanted = options.onlyRoots === true ? [] : hashes;
      const closure = await walkClosure(wanted, walked.find, { signal, known, onMissing });
      return { closure, needed: await planning.target?.invalidPaths(pathsOf(closure)) };
    },
  };
}

/**
 * Returns the paths of a closure whose NAR is not fetched: it is in the store or in the target. Leaves out disputed ones.
 */
function notPlanned(closure: Closure, plan: Plan): NarInfo[] {
  const { jobs, unsized } = plan;
  const fetched = [...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map((info) => info.storePath)];
  const planned = new Set([...fetched, ...disputedPaths(plan)]);
  return [...closure.values()].filter(({ storePath }) => !planned.has(storePath));
}
