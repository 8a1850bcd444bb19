import { isNarswarmError, NarswarmError, type ErrorCode } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { MapBudget } from '../index/within-budget.ts';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import type { HeldNars } from '../serve/held-nars.ts';
import type { FileStore } from '../store/file-store.ts';
import { entriesOf, noteChecked } from '../store/note-checked.ts';
import { writeRealisations } from '../store/realisations.ts';
import type { PartialSession } from '../store/session.ts';
import type { Network } from '../swarm/network.ts';
import { completePart, pathsOf, topsOf, walkClosure, type Closure, type MissingPath } from './closure.ts';
import { CommitFeed } from './commit-feed.ts';
import { Committer } from './commit.ts';
import type { Tell } from './events.ts';
import { FetchSources } from './fetch-sources.ts';
import { fetchNars, type FetchedNars, type FetchNarsContext } from './fetch-nars.ts';
import type { LooksInto } from './fetched-contents.ts';
import { Gathered, lackOf } from './gathered.ts';
import type { MapDoubt } from './hash-maps.ts';
import { importNoted } from './noted-import.ts';
import type { NearSources } from './near-sources.ts';
import type { Plan } from './plan.ts';
import { makePlan, type Planned, type PlanningMeans } from './planning.ts';
import { RealisationSearch } from './realisation-search.ts';
import { fetchWithinRoom, type Room, type SteppedFetch } from './room.ts';
import { readRoots, resolveRoots, type Outsized, type Roots } from './roots.ts';
import { UpstreamOrder } from './upstream-order.ts';
import { walk, type Walked } from './walk.ts';

/** The resources of a fetch. Their creator closes them. */
export interface PrefetchContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  /** Default: no limit. */
  readonly limit?: DirectionLimit | undefined;
  /** Sorts the upstreams in the order of asking. Default: as given. */
  readonly orderUpstreams?: (upstreams: readonly Upstream[]) => Promise<readonly Upstream[]>;
  /** Sources on the local network. Default: none. */
  readonly near?: readonly NearSources[];
  readonly tell: Tell;
  readonly signal: AbortSignal;
  /** Receives NARs that are in the store. Peers may want them before their narinfos are written. */
  readonly held?: HeldNars;
}

export interface PrefetchOptions {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** True to include every path of the publishers' hash maps, besides the roots. */
  readonly wholeMaps?: boolean;
  /** Limit on what is taken from each of those hash maps. Default: none. */
  readonly mapBudget?: MapBudget | undefined;
  /** The room for NARs. Only without an import. Default: unlimited. */
  readonly room?: StoreRoom | undefined;
  /**
   * True to continue without missing paths and their referrers. {@link PrefetchResult.missing} lists them, also after
   * an interruption, and a failed import is in the result. If false (default), the walk ends with the first path
   * without a narinfo, and a path whose NAR cannot be fetched or imported ends the fetch after everything else is
   * imported.
   */
  readonly keepGoing?: boolean;
  readonly publishers: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Target of the import. Undefined: this machine's default store. */
  readonly to?: string | undefined;
  /** True to run `nix copy` at the end. */
  readonly copy: boolean;
  /** The part of the NARs that is decompressed before the end if there is no import. Default: `small`. */
  readonly looksInto?: LooksInto;
  /**
   * True if the store should also hold paths that the target has, in order to serve them. Default: only paths that the
   * target lacks.
   */
  readonly holdAll?: boolean;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly dryRun?: boolean | undefined;
  /** True to fetch only the roots, without their references, as far as possible. */
  readonly onlyRoots?: boolean;
  /** Milliseconds to look for the publishers. */
  readonly publisherTimeoutMs: number;
  /** Without an upstream: time without a byte from any peer until giving up, in milliseconds. Default 60,000. */
  readonly peerTimeoutMs?: number | undefined;
}

/** A store with a budget. */
export interface StoreRoom extends Room {
  /** Removes paths outside of the fetched closure until the budget is met. @param held what has arrived so far */
  readonly make: (held: PrefetchResult) => Promise<void>;
}

export interface PrefetchResult {
  /** The complete part of the closure. */
  readonly closure: Closure;
  readonly plan: Plan;
  /** The roots whose closure is complete. */
  readonly roots: readonly StorePath[];
  readonly imported: boolean;
  /** The requested roots, complete or not. */
  readonly wanted: readonly StoreHash[];
  /** Missing paths; empty without `keepGoing`. */
  readonly missing: readonly MissingPath[];
  /** True if `missing` is the result of an interruption. */
  readonly isInterrupted: boolean;
  /** The failure of the import; undefined without `keepGoing`. */
  readonly importFailure: NarswarmError | undefined;
  /** The publishers' hash maps that are kept editions. */
  readonly doubts: readonly MapDoubt[];
  /** The part of whole hash maps that was left out because it is too large. Undefined if all of them fits. */
  readonly outsized: Outsized | undefined;
}

/** Time without a byte from any peer until a step ends, if nothing arrived in the one before. */
const FRUITLESS_WAIT_MS = 5_000;

/** Import errors that leave the file store intact. */
const OF_IMPORT: readonly ErrorCode[] = ['IMPORT_FAILED', 'NIX_MISSING', 'NAR_UNAVAILABLE', 'INTERRUPTED'];

/**
 * Fetches closures. Walks the closures of the roots, fetches missing NARs into the file store, writes the narinfos, and
 * imports them with `nix copy`.
 *
 * @throws NarswarmError of any kind; the signal's reason. Everything verified before is in the store.
 */
export async function prefetch(options: PrefetchOptions, context: PrefetchContext): Promise<PrefetchResult> {
  const { store, tell, signal } = context;
  const { dryRun = false, keepGoing = false, onlyRoots = false } = options;
  const named = readRoots(options.roots);
  await using stack = new AsyncDisposableStack();
  const sources = stack.use(await FetchSources.open(options, context));
  const { maps } = sources;
  const roots = await resolveRoots(named, maps, {
    wholeMaps: options.wholeMaps === true,
    mapBudget: options.mapBudget,
    signal,
  });

  tell({ type: 'walking' });
  const walked = await walk(roots, sources, { onlyRoots, keepGoing, signal });
  const gathered = new Gathered(roots.names.keys(), walked.closure, walked.absent);
  const realisations = new RealisationSearch(gathered.closure, sources, dryRun || onlyRoots ? undefined : signal);

  const { target } = sources;
  const { candidates } = walked;
  const planning: PlanningMeans = { store, session: context.session, target, maps, candidates, tell, signal };
  const hasUpstream = sources.caches.length > 0;
  const planned = await makePlan(gathered.closure, planning, { dryRun, mendsLost: keepGoing, hasUpstream });
  const { plan } = planned;
  gathered.noteLost(planned.lost);
  const result = (imported: boolean, importFailure?: NarswarmError): PrefetchResult => ({
    closure: gathered.closure,
    plan,
    roots: gathered.wholeRoots,
    imported,
    wanted: [...roots.names.keys()],
    missing: gathered.missing,
    isInterrupted: signal.aborted,
    importFailure,
    doubts: maps.doubts,
    outsized: roots.outsized,
  });
  if (dryRun) return result(false);

  tell({ type: 'downloading', nars: plan.jobs.length + plan.unsized.length, bytes: plan.jobBytes });
  const committer = new Committer(store);
  // Without an import, the contents of a NAR are checked before its narinfo is written.
  const feed = options.copy ? new CommitFeed(committer, { tell }) : undefined;
  feed?.add(notPlanned(gathered.closure, plan));
  const download = downloadMeans(options, context, { sources, walked, planned, planning, gathered, feed });
  const fetching =
    options.room === undefined
      ? fetchNars(plan, gathered.closure, download)
      : fetchSettling(roots, plan, download, { room: options.room, gathered, committer, result });
  const fetched = await fetching.finally(() => feed?.end());
  if (!keepGoing) signal.throwIfAborted();
  gathered.take(fetched.closure, fetched.failures);

  if (plan.jobs.length + plan.unsized.length > 0) tell({ type: 'committing' });
  await committer.commit(gathered.closure, fetched.jobs);
  if (fetched.checked.length > 0) await noteChecked(store, await entriesOf(store, fetched.checked));
  await writeRealisations(await realisations.end(), store);

  const { imported, importFailure } = await importGathered(roots, planned, gathered, download, options);
  if (!keepGoing && gathered.missing.length > 0) throw lackOf(gathered.missing, plan);
  return result(imported, importFailure);
}

/** Fetches a plan in steps, commits what arrives, and makes room for the rest. */
function fetchSettling(
  roots: Roots,
  plan: Plan,
  download: FetchNarsContext,
  parts: {
    readonly room: StoreRoom;
    readonly gathered: Gathered;
    readonly committer: Committer;
    readonly result: (imported: boolean) => PrefetchResult;
  },
): Promise<FetchedNars> {
  const { room, gathered, committer, result } = parts;
  const { store, signal } = download;
  const committed = new Set<StoreHash>();
  const settle: SteppedFetch['settle'] = async (got, later) => {
    if (got !== undefined) gathered.take(got.closure, got.failures);
    const held = completePart(gathered.closure, later);
    const fresh = new Map([...held].filter(([hash]) => !committed.has(hash)));
    await committer.commit(fresh, got?.jobs ?? []);
    for (const hash of fresh.keys()) committed.add(hash);
    if (got !== undefined) await noteChecked(store, await entriesOf(store, got.checked));
    if ((await room.free()) < 0) await room.make({ ...result(false), closure: held });
    return room.free();
  };
  const { peerTimeoutMs = FRUITLESS_WAIT_MS } = download;
  const brief = { ...download, peerTimeoutMs: Math.min(peerTimeoutMs, FRUITLESS_WAIT_MS) };
  const fetch: SteppedFetch['fetch'] = (step, closure, isFruitless) =>
    fetchNars(step, closure, isFruitless ? brief : download);
  return fetchWithinRoom(plan, gathered.closure, room, { roots: roots.names.keys(), fetch, settle, signal });
}

/**
 * Imports the complete part. @throws as {@link importNoted}; with `keepGoing`, returns the failure of the import
 * instead
 */
async function importGathered(
  roots: Roots,
  { plan, needed }: Planned,
  gathered: Gathered,
  download: FetchNarsContext,
  { copy, to, trustedPublicKeys, onlyRoots, keepGoing }: PrefetchOptions,
): Promise<Pick<PrefetchResult, 'imported' | 'importFailure'>> {
  const { signal, tell } = download;
  const tops = copy && onlyRoots !== true ? importable(roots, gathered.closure) : [];
  if (tops.length === 0) return { imported: false, importFailure: undefined };
  try {
    signal.throwIfAborted();
    if (needed === undefined || needed.size > 0) {
      tell({ type: 'importing', to });
      const done = await importNoted(tops, { closure: gathered.closure, plan }, { download, to, trustedPublicKeys });
      gathered.take(done.closure, done.failures);
    }
    return { imported: gathered.wholeRoots.length > 0, importFailure: undefined };
  } catch (error) {
    const reason: unknown = signal.aborted ? signal.reason : error;
    if (keepGoing !== true || !isNarswarmError(reason, ...OF_IMPORT)) throw reason;
    return { imported: false, importFailure: reason };
  }
}

/** The results of the phases before the download. */
interface Found {
  readonly sources: FetchSources;
  readonly walked: Walked;
  readonly planned: Planned;
  readonly planning: PlanningMeans;
  readonly gathered: Gathered;
  /** Receives NARs while others are still arriving. Undefined if everything is committed at the end. */
  readonly feed: CommitFeed | undefined;
}

function downloadMeans(options: PrefetchOptions, context: PrefetchContext, found: Found): FetchNarsContext {
  const { sources, walked, planned, planning, gathered, feed } = found;
  const { store, session, network, http, keys, limit, held, tell, signal } = context;
  const upstreams = sources.caches;
  return {
    store,
    session,
    network,
    http,
    keys,
    limit,
    held,
    tell,
    signal,
    upstreams,
    order: new UpstreamOrder(upstreams),
    peerTimeoutMs: options.peerTimeoutMs,
    candidates: walked.candidates,
    torrentOf: (info) => sources.maps.torrentOf(info, signal),
    torrentsLate: planned.torrentsLate,
    contents: options.copy ? undefined : (options.looksInto ?? 'small'),
    onFetched: feed && ((infos, job) => feed.add(infos, job)),
    extend: async (hashes, known) => {
      const onMissing = (hash: StoreHash, lack: MissingPath): void => gathered.lack(hash, lack);
      const wanted = options.onlyRoots === true ? [] : hashes;
      const closure = await walkClosure(wanted, walked.find, { signal, known, onMissing });
      return { closure, needed: await planning.target?.invalidPaths(pathsOf(closure)) };
    },
  };
}

/** Returns the paths of a closure whose NAR is not fetched: it is in the store or in the target. */
function notPlanned(closure: Closure, { jobs, unsized }: Plan): NarInfo[] {
  const planned = new Set([...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map((info) => info.storePath)]);
  return [...closure.values()].filter(({ storePath }) => !planned.has(storePath));
}

/** Returns arguments for `nix copy` that cover the complete part: the roots, and the complete parts of broken ones. */
function importable({ names }: Roots, closure: Closure): StorePath[] {
  const whole = [...names.keys()].flatMap((hash) => closure.get(hash)?.storePath ?? []);
  return whole.length === names.size ? whole : [...new Set([...whole, ...topsOf(closure)])];
}
