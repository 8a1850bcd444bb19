import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isNarswarmError, type ErrorCode, type NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { isAddressedBesideNarHash } from '../nix/content-address.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import { isAbsentStore } from '../nix/read-derivation.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import type { PublisherAddress } from '../index/address.ts';
import { Catalogue } from '../store/catalogue.ts';
import { claim } from '../store/claims.ts';
import { FileStore } from '../store/file-store.ts';
import { entriesOf, noteChecked } from '../store/note-checked.ts';
import { writeRealisations } from '../store/realisations.ts';
import type { PartialSession } from '../store/session.ts';
import { extensionOf, type NarTorrent } from '../torrent/canonical.ts';
import type { Network } from '../torrent/network.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import { completePart, referencesFirst, walkClosure, type Closure, type MissingPath } from './closure.ts';
import { commit } from './commit.ts';
import {
  firstTrusted,
  RETRIES_WITH_ALTERNATIVE,
  storeSource,
  upstreamSource,
  type NarInfoSource,
} from './find-narinfo.ts';
import { FetchedContents, lackOfContents, type LooksInto } from './fetched-contents.ts';
import { HashMaps, type MapDoubt } from './hash-maps.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { HeldNars } from './held-nars.ts';
import { importNoted } from './noted-import.ts';
import type { NarJob } from './job.ts';
import { lostOf } from './lost-nars.ts';
import { fetchOtherFile } from './other-file.ts';
import { attachTorrents, planFetch, type Plan } from './plan.ts';
import { findRealisations } from './realisations.ts';
import type { Progress } from './report.ts';
import { Scheduler } from './scheduler.ts';
import { Target } from './target.ts';
import { fetchUnsized } from './unsized.ts';

/** What a fetch works with; whoever makes these closes them. */
export interface PrefetchContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Absent: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Takes in the NARs that are in the store, which peers may want before their narinfos are there. */
  readonly held?: HeldNars;
}

export interface PrefetchOptions {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** Takes in every path that the publishers' maps have, besides the roots. */
  readonly wholeMaps?: boolean;
  /**
   * Goes on without the paths that cannot be had, and without those that refer to them; {@link PrefetchResult.missing}
   * tells. An interruption while NARs are fetched is such a lack, too, and an import that fails is in the result. Default:
   * the walk ends with the first path, and nothing becomes visible.
   */
  readonly keepGoing?: boolean;
  readonly publishers: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Target of the import; undefined: the default store of this machine. */
  readonly to?: string | undefined;
  /** Whether `nix copy` runs at the end. */
  readonly copy: boolean;
  /** How much is decompressed without an import, before this ends. Default: `small`. */
  readonly looksInto?: LooksInto;
  /** Whether the store is to hold also what the target has, so that it can be given to others. Default: what it lacks. */
  readonly holdAll?: boolean;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly limit?: RateLimit | undefined;
  readonly dryRun?: boolean | undefined;
  /** Whether the roots alone are fetched and nothing that they refer to; those of them that can be had. */
  readonly onlyRoots?: boolean;
  /** Milliseconds to look for the publishers. */
  readonly publisherTimeoutMs: number;
  /** Without an upstream: milliseconds that may pass without a byte from any peer. Default 60,000. */
  readonly peerTimeoutMs?: number | undefined;
  /** Told of each step, for people. */
  readonly onStep?: (text: string) => void;
  /** Told what will be done, before it is. */
  readonly onPlan?: (plan: Plan, closure: Closure) => void;
  /** A line that `nix copy` printed. */
  readonly onNixLine?: (line: string) => void;
}

export interface PrefetchResult {
  /** What is there in full. */
  readonly closure: Closure;
  readonly plan: Plan;
  /** The roots whose closure is there in full. */
  readonly roots: readonly StorePath[];
  readonly imported: boolean;
  /** The roots that were asked for, there or not. */
  readonly wanted: readonly StoreHash[];
  /** What could not be had; empty without `keepGoing`. */
  readonly missing: readonly MissingPath[];
  /** True where `missing` is what an interruption has left. */
  readonly isInterrupted: boolean;
  /** What the import failed of; undefined without `keepGoing`. */
  readonly importFailure: NarswarmError | undefined;
  /** The publishers' maps that are generations kept from before. */
  readonly doubts: readonly MapDoubt[];
}

/** What an import fails of that leaves the file store as good as it is. */
const OF_IMPORT: readonly ErrorCode[] = ['IMPORT_FAILED', 'NIX_MISSING', 'NAR_UNAVAILABLE', 'INTERRUPTED'];

/** From the end of the walk on, the publishers have this long before upstreams begin without them. */
const MAPS_GRACE_MS = 2_000;

/**
 * The main job: walks the closures of the roots, fetches what is missing into the file store, writes the narinfos, and
 * imports it with `nix copy`.
 *
 * @throws NarswarmError of any kind; the signal's reason. Whatever was verified before is in the store.
 */
export async function prefetch(options: PrefetchOptions, context: PrefetchContext): Promise<PrefetchResult> {
  const { store, session, network, http, progress, signal } = context;
  const { upstreams } = options;
  const wanted = options.roots.map((text) => ({ text, known: asStorePath(text) })); // throws if one is malformed
  await using stack = new AsyncDisposableStack();
  const wantsTarget = options.holdAll !== true && (options.copy || options.to !== undefined);
  const asksTarget = wantsTarget && !(options.dryRun === true && (await isAbsentStore(options.to)));
  const target = asksTarget ? stack.use(new Target(options.to, { signal })) : undefined; // Nix starts meanwhile
  const maps = stack.use(
    new HashMaps({ ...options, isOptional: upstreams.length > 0 }, { ...context, onWarning: progress.onWarning }),
  );
  const roots = new Map<StoreHash, string>();
  const rootPaths: StorePath[] = [];
  for (const { text, known } of wanted) {
    const root = known ?? { path: await maps.root(text) };
    if ('path' in root) rootPaths.push(root.path);
    roots.set('path' in root ? storeHashOf(root.path) : root.hash, text);
  }
  if (options.wholeMaps === true) for (const hash of await maps.storeHashes(signal)) roots.set(hash, hash);

  options.onStep?.('walking the closure');
  const inTarget = target === undefined ? [] : [target.source(rootPaths)];
  const sources: NarInfoSource[] = [
    await storeSource(store),
    ...(target?.isRemote === true ? [] : inTarget),
    ...maps.ready(),
    ...upstreams.map((upstream, index) =>
      upstreamSource(upstream, http, index < upstreams.length - 1 ? RETRIES_WITH_ALTERNATIVE : undefined),
    ),
    ...(target?.isRemote === true ? inTarget : []),
    ...maps.awaited(),
  ];
  const origins = new Map<StoreHash, string>();
  const absent = new Map<StoreHash, MissingPath>();
  const walked = await walkClosure([...roots.keys()], firstTrusted(sources, context.keys, origins), {
    signal,
    onlyRoots: options.onlyRoots === true,
    ...(options.keepGoing === true && {
      onMissing: (hash, missing) => absent.set(hash, { ...missing, path: roots.get(hash) ?? missing.path }),
    }),
  });
  let closure = completePart(walked, new Set(absent.keys()));

  const enough = new AbortController();
  const isAlone = options.dryRun === true || options.onlyRoots === true;
  const searched = AbortSignal.any([signal, enough.signal]);
  const searching = isAlone
    ? Promise.resolve([])
    : findRealisations(closure, { ...context, upstreams, maps: maps.awaited(), signal: searched });
  const paths = [...closure.values()].map((info) => info.storePath);
  const needed = await target?.invalidPaths(paths);
  if (options.dryRun !== true) await claimClosure(closure, context, options.onStep);
  const catalogue = await Catalogue.open(store);
  // What the store held and has lost is fetched again, though the target has it.
  const lost: ReadonlySet<string> =
    options.keepGoing === true ? await lostOf(closure, needed, { store, catalogue }) : new Set();
  const plan = await planFetch(closure, {
    store,
    catalogue,
    needed: needed && new Set<string>([...needed, ...lost]),
    signal,
  });
  const torrentOf = (info: NarInfo): Promise<NarTorrent | undefined> => maps.torrentOf(info, signal);
  const isLate = await isSlow(plan, maps, options);
  if (!isLate) await attachTorrents(plan.jobs, torrentOf); // waits for the publishers, where there is a job
  options.onPlan?.(plan, closure);
  const result = (imported: boolean, importFailure?: NarswarmError): PrefetchResult => ({
    closure,
    plan,
    roots: [...roots.keys()].flatMap((hash) => closure.get(hash)?.storePath ?? []),
    imported,
    wanted: [...roots.keys()],
    missing: [...absent.values()],
    isInterrupted: signal.aborted,
    importFailure,
    doubts: maps.doubts,
  });
  if (options.dryRun === true) return result(false);

  progress.totalNars = plan.jobs.length + plan.unsized.length;
  progress.totalBytes = plan.jobBytes;
  const scheduler = new Scheduler({
    store,
    session,
    network,
    http,
    upstreams,
    limit: options.limit,
    standstillMs: options.peerTimeoutMs,
    observer: {
      onBytes: progress.onBytes,
      onKept: progress.onKept,
      onWarning: progress.onWarning,
      onNar(job) {
        progress.onNar(job);
        hold(job);
      },
    },
  });
  const contents = options.copy ? undefined : stack.use(new FetchedContents(options.looksInto, progress, signal));
  function hold(job: NarJob): void {
    const { torrent, info } = job;
    const path = scheduler.pathOf(job);
    if (torrent !== undefined) context.held?.add({ torrent, path, info });
    contents?.add(job, path, closure);
  }
  for (const nar of plan.verified) hold(nar);
  const { completed, failure } = await fetchUnsized(plan.unsized, { ...options, ...context });
  const attached = isLate ? maps.settled().then(() => scheduler.attach(torrentOf)) : Promise.resolve();
  attached.catch(() => undefined); // a map that fails is a warning; an end of the run ends this, too
  try {
    await scheduler.run(plan.jobs, signal);
  } catch (error) {
    if (failure !== undefined && !signal.aborted) progress.onWarning(failure.message);
    if (options.keepGoing !== true || !isNarswarmError(error, 'NAR_UNAVAILABLE', 'INTERRUPTED')) throw error;
  }
  if (failure !== undefined && options.keepGoing !== true) throw failure;
  for (const lack of lacking(scheduler, plan, completed, failure)) absent.set(storeHashOf(lack.path), lack);
  const { sound = [], wrong = [] } = (await contents?.finish(plan.verified)) ?? {};
  for (const one of wrong) {
    const { storePath } = one.info;
    const lack = lackOfContents(one, origins.get(storeHashOf(storePath)));
    const other = await fetchOtherFile(one.info, { ...options, ...context });
    if (other === undefined && options.keepGoing !== true) throw lack;
    if (other === undefined) absent.set(storeHashOf(storePath), missingFor(storePath, lack));
    else completed.set(storePath, other);
  }
  for (const { storePath } of sound) context.held?.noteSound(storePath);
  const isIncomplete = ([, { path }]: readonly [StoreHash, MissingPath]): boolean => !lost.has(path);
  closure = completePart(closure, new Set([...absent].filter(isIncomplete).map(([hash]) => hash)));

  options.onStep?.('writing narinfos');
  const infos = referencesFirst(closure).map((info) => scheduler.asFetched(completed.get(info.storePath) ?? info));
  await commit(infos, [...plan.jobs, ...plan.verified], store);
  const byNarHash = [...completed.values()].filter((info) => !isAddressedBesideNarHash(info));
  const checked = [...byNarHash, ...sound].map(({ storePath }) => storePath);
  if (checked.length > 0) await noteChecked(store, await entriesOf(store, checked));
  await writeRealisations(await endWithin(MAPS_GRACE_MS, searching, enough), store);
  const { roots: whole } = result(false);
  if (!options.copy || whole.length === 0) return result(false);

  try {
    signal.throwIfAborted();
    options.onStep?.(`nix copy --to ${options.to ?? 'the local store'}`);
    if (needed === undefined || needed.size > 0)
      await importNoted(whole, { closure, plan, origins }, { ...options, ...context, torrentOf });
    return result(true);
  } catch (error) {
    const reason: unknown = signal.aborted ? signal.reason : error;
    if (options.keepGoing !== true || !isNarswarmError(reason, ...OF_IMPORT)) throw reason;
    return result(false, reason);
  }
}

/** The paths whose NAR could not be had, each with the reason. */
function* lacking(
  scheduler: Scheduler,
  plan: Plan,
  completed: ReadonlyMap<StorePath, NarInfo>,
  failure: NarswarmError | undefined,
): Generator<MissingPath & { path: StorePath }> {
  for (const job of plan.jobs) {
    if (scheduler.hasFetched(job)) continue;
    const failed = scheduler.failureOf(job);
    const reason = failed instanceof Error ? failed.message : 'its NAR was not complete before the interruption';
    for (const path of job.storePaths) yield { path, reason, isNowhere: false };
  }
  for (const { storePath: path } of plan.unsized)
    if (failure !== undefined && !completed.has(path)) yield { path, reason: failure.message, isNowhere: false };
}

function missingFor(path: StorePath, { message: reason, code }: NarswarmError): MissingPath {
  return { path, reason, isNowhere: false, code };
}

/** Keeps the garbage collector from what this fetch is about to count on. */
async function claimClosure(
  closure: Closure,
  { store, session, signal }: PrefetchContext,
  onStep: PrefetchOptions['onStep'],
): Promise<void> {
  const claims = Array.from(closure, ([storeHash, { fileHash, compression }]) => ({
    storeHash,
    narName: fileHash === undefined ? undefined : basename(FileStore.narUrl(fileHash, extensionOf(compression))),
  }));
  await claim(store, session, claims, {
    signal,
    onWait: () => onStep?.('waiting for narswarm gc, which is at work on this store'),
  });
}

/** What a search has found after that time at the most. */
async function endWithin<T>(durationMs: number, search: Promise<T>, end: AbortController): Promise<T> {
  const timer = setTimeout(() => end.abort(), durationMs);
  try {
    return await search;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * True where the publishers take so long to answer that upstreams had better begin: a fetch must not be slower than plain
 * Nix because nobody answers for a map. What they find later helps with the rest.
 */
async function isSlow(plan: Plan, maps: HashMaps, options: PrefetchOptions): Promise<boolean> {
  if (options.upstreams.length === 0 || options.dryRun === true || plan.jobs.length === 0) return false;
  const settled = maps.settled().then(
    () => false,
    () => false,
  );
  const stop = new AbortController();
  try {
    return await Promise.race([settled, sleep(MAPS_GRACE_MS, true, { signal: stop.signal })]);
  } finally {
    stop.abort();
  }
}

/** The store path or its hash part that a text is by itself, or undefined where it can only be a root's name. */
function asStorePath(text: string): { readonly path: StorePath } | { readonly hash: StoreHash } | undefined {
  if (text.includes('/')) return { path: parseStorePath(text) };
  try {
    return { hash: parseStoreHash(text) };
  } catch {
    return undefined;
  }
}
