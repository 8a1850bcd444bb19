import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isNarswarmError, NarswarmError, type ErrorCode } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
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
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Network } from '../swarm/network.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { Candidates } from './candidates.ts';
import {
  completePart,
  reachedFrom,
  referencesFirst,
  topsOf,
  walkClosure,
  type Closure,
  type MissingPath,
} from './closure.ts';
import { commit } from './commit.ts';
import {
  firstTrusted,
  RETRIES_WITH_ALTERNATIVE,
  storeSource,
  upstreamSource,
  type NarInfoSource,
} from './find-narinfo.ts';
import { fetchNars, missingOf, type FetchNarsContext } from './fetch-nars.ts';
import type { LooksInto } from './fetched-contents.ts';
import { HashMaps, type MapDoubt } from './hash-maps.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { HeldNars } from '../serve/held-nars.ts';
import { importNoted } from './noted-import.ts';
import { lostOf } from './lost-nars.ts';
import { namedFile } from './named-file.ts';
import { attachTorrents, planFetch, type Plan } from './plan.ts';
import { findRealisations } from './realisations.ts';
import type { Tell } from './events.ts';
import { Target } from './target.ts';

/** What a fetch works with; whoever makes these closes them. */
export interface PrefetchContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Absent: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  /** Puts the upstreams into the order in which they are to be asked. Default: as given. */
  readonly orderUpstreams?: (upstreams: readonly Upstream[]) => Promise<readonly Upstream[]>;
  readonly tell: Tell;
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
   * the walk ends with the first path that has no narinfo; a path whose NAR cannot be had, or imported, ends it after all
   * else is imported.
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
export async function prefetch(given: PrefetchOptions, context: PrefetchContext): Promise<PrefetchResult> {
  const { store, http, tell, signal } = context;
  const onWarning = (message: string): void => tell({ type: 'warning', message });
  const ordering = context.orderUpstreams?.(given.upstreams);
  ordering?.catch(() => undefined); // awaited below
  const wanted = given.roots.map((text) => ({ text, known: asStorePath(text) })); // throws if one is malformed
  await using stack = new AsyncDisposableStack();
  const wantsTarget = given.holdAll !== true && (given.copy || given.to !== undefined);
  const asksTarget = wantsTarget && !(given.dryRun === true && (await isAbsentStore(given.to)));
  const target = asksTarget ? stack.use(new Target(given.to, { signal })) : undefined; // Nix starts meanwhile
  const maps = stack.use(new HashMaps({ ...given, isOptional: given.upstreams.length > 0 }, { ...context, onWarning }));
  const options = { ...given, upstreams: (await ordering) ?? given.upstreams };
  const { upstreams } = options;
  const roots = new Map<StoreHash, string>();
  const rootPaths: StorePath[] = [];
  for (const { text, known } of wanted) {
    const root = known ?? { path: await maps.root(text) };
    if ('path' in root) rootPaths.push(root.path);
    roots.set('path' in root ? storeHashOf(root.path) : root.hash, text);
  }
  if (options.wholeMaps === true) for (const hash of await maps.storeHashes(signal)) roots.set(hash, hash);

  tell({ type: 'walking' });
  const inTarget = target === undefined ? [] : [target.source(rootPaths)];
  const sources: NarInfoSource[] = [
    await storeSource(store),
    ...(target?.isRemote === true ? [] : inTarget),
    ...maps.ready(),
    ...upstreams.map((upstream, index) =>
      upstreamSource(
        upstream,
        http,
        index < upstreams.length - 1 ? RETRIES_WITH_ALTERNATIVE : undefined,
        store.storeDir,
      ),
    ),
    ...(target?.isRemote === true ? inTarget : []),
    ...maps.awaited(),
  ];
  const origins = new Map<StoreHash, NarInfoSource>();
  const absent = new Map<StoreHash, MissingPath>();
  const find = firstTrusted(sources, context.keys, origins);
  const walked = await walkClosure([...roots.keys()], find, {
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
  const needed = await target?.invalidPaths(pathsOf(closure));
  if (options.dryRun !== true) await claimClosure(closure, context);
  const catalogue = await Catalogue.open(store);
  // NARs that the store held and has lost are fetched again, even if the target has them.
  const lost: ReadonlySet<string> =
    options.keepGoing === true ? await lostOf(closure, needed, { store, catalogue }) : new Set();
  const plan = await planFetch(closure, {
    store,
    catalogue,
    needed: needed && new Set<string>([...needed, ...lost]),
    signal,
  });
  const torrentOf = (info: NarInfo): Promise<NarTorrent | undefined> => maps.torrentOf(info, signal);
  let isLate = false;
  const attaching = attachTorrents(plan.jobs, torrentOf, () => isLate); // waits for the publishers, if there is a job
  attaching.catch(() => undefined); // too late, it is news to nobody
  isLate = await isSlow(attaching, plan, options);
  tell({ type: 'planned', plan, closure });
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

  tell({ type: 'downloading', nars: plan.jobs.length + plan.unsized.length, bytes: plan.jobBytes });
  const fetching: FetchNarsContext = {
    ...options,
    ...context,
    candidates: new Candidates(sources, context.keys, origins),
    torrentOf,
    torrentsLate: isLate ? () => maps.settled() : undefined,
    contents: options.copy ? undefined : (options.looksInto ?? 'small'),
    extend: async (hashes, known) => {
      const isLacking = (hash: StoreHash, lack: MissingPath): unknown => absent.set(hash, lack);
      const wantedOf = options.onlyRoots === true ? [] : hashes;
      const found = await walkClosure(wantedOf, find, { signal, known, onMissing: isLacking });
      await claimClosure(found, context);
      return { closure: found, needed: await target?.invalidPaths(pathsOf(found)) };
    },
  };
  let all = walked;
  /** Records what came of a fetch: what is there in full, and what is not. */
  const take = (found: Closure, failures: ReadonlyMap<StorePath, unknown>): void => {
    for (const [hash, lack] of missingOf(failures)) absent.set(hash, lack);
    all = new Map([...all, ...found]);
    const reached = reachedFrom(roots.keys(), all);
    for (const hash of absent.keys()) if (!reached.hashes.has(hash)) absent.delete(hash);
    const isIncomplete = ([, { path }]: readonly [StoreHash, MissingPath]): boolean => !lost.has(path);
    closure = completePart(reached.closure, new Set([...absent].filter(isIncomplete).map(([hash]) => hash)));
  };
  const fetched = await fetchNars(plan, closure, fetching);
  if (options.keepGoing !== true) signal.throwIfAborted();
  take(fetched.closure, fetched.failures);

  tell({ type: 'committing' });
  await commit(referencesFirst(closure), fetched.jobs, store);
  if (fetched.checked.length > 0) await noteChecked(store, await entriesOf(store, fetched.checked));
  await writeRealisations(await endWithin(MAPS_GRACE_MS, searching, enough), store);
  const tops = options.onlyRoots === true ? [] : importable(roots.keys(), closure);
  let imported = false;
  let importFailure: NarswarmError | undefined;
  if (options.copy && tops.length > 0) {
    try {
      signal.throwIfAborted();
      tell({ type: 'importing', to: options.to });
      if (needed === undefined || needed.size > 0) {
        const done = await importNoted(tops, { closure, plan }, { ...options, ...fetching });
        take(done.closure, done.failures);
      }
      imported = [...roots.keys()].some((hash) => closure.has(hash));
    } catch (error) {
      const reason: unknown = signal.aborted ? signal.reason : error;
      if (options.keepGoing !== true || !isNarswarmError(reason, ...OF_IMPORT)) throw reason;
      importFailure = reason;
    }
  }
  if (options.keepGoing !== true && absent.size > 0) throw lackOf([...absent.values()], plan);
  return result(imported, importFailure);
}

/** Arguments for `nix copy` that cover all that is there: the roots, and the sound parts of broken ones. */
function importable(roots: Iterable<StoreHash>, closure: Closure): StorePath[] {
  const all = [...roots];
  const whole = all.flatMap((hash) => closure.get(hash)?.storePath ?? []);
  return whole.length === all.length ? whole : [...new Set([...whole, ...topsOf(closure)])];
}

function pathsOf(closure: Closure): StorePath[] {
  return Array.from(closure.values(), ({ storePath }) => storePath);
}

/** Error of a fetch that left something out; all else is there. */
function lackOf(missing: readonly MissingPath[], { jobs, unsized }: Plan): NarswarmError {
  const [first] = missing;
  const { path, reason, code } = first ?? { path: undefined, reason: 'interrupted', code: undefined };
  const isOfNix = code === 'IMPORT_FAILED';
  const wanted = [...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map(({ storePath }) => storePath)];
  // NARs of the store that turned out wrong were not planned.
  const total = new Set<string>([...wanted, ...missing.map((lack) => lack.path)]).size;
  const what = isOfNix
    ? `${missing.length} path${missing.length === 1 ? '' : 's'} could not be imported`
    : `${missing.length} of ${total} NARs could not be fetched`;
  const more = missing.length > 1 ? ` (and ${missing.length - 1} more)` : '';
  const kept = missing.length < total ? (isOfNix ? '; the others are imported' : '; the others are kept') : '';
  const isOwn = code === 'NIX_MISSING' || code === 'NARINFO_MISSING' || isOfNix;
  return new NarswarmError(isOwn ? code : 'NAR_UNAVAILABLE', `${what}: ${reason}${more}${kept}`, {
    facts: { path, failed: missing.length, total },
  });
}

/** Keeps the garbage collector from what this fetch is about to count on. */
async function claimClosure(closure: Closure, { store, session, tell, signal }: PrefetchContext): Promise<void> {
  const claims = Array.from(closure, ([storeHash, info]) => {
    const file = namedFile(info);
    return { storeHash, narName: file && basename(FileStore.narUrl(file.fileHash, file.extension)) };
  });
  await claim(store, session, claims, {
    signal,
    onWait: () => tell({ type: 'waiting-for-gc' }),
  });
}

/** Ends a search after that time and returns its finds. */
async function endWithin<T>(durationMs: number, search: Promise<T>, end: AbortController): Promise<T> {
  const timer = setTimeout(() => end.abort(), durationMs);
  try {
    return await search;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * True if the publishers take so long to answer, or their peers to give a shard, that upstreams had better begin: a fetch
 * must not be slower than plain Nix because nobody answers for a map. Torrents found later help with the rest.
 */
async function isSlow(attaching: Promise<void>, plan: Plan, options: PrefetchOptions): Promise<boolean> {
  const attached = attaching.then(() => false);
  if (options.upstreams.length === 0 || options.dryRun === true || plan.jobs.length === 0) return attached;
  const stop = new AbortController();
  try {
    return await Promise.race([attached, sleep(MAPS_GRACE_MS, true, { signal: stop.signal })]);
  } finally {
    stop.abort();
  }
}

/** The store path or its hash part that a text is by itself, or undefined if it can only be a root's name. */
function asStorePath(text: string): { readonly path: StorePath } | { readonly hash: StoreHash } | undefined {
  if (text.includes('/')) return { path: parseStorePath(text) };
  try {
    return { hash: parseStoreHash(text) };
  } catch {
    return undefined;
  }
}
