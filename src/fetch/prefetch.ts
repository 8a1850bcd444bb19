import type { StoreHash, StorePath } from '../nix/brands.ts';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { queryInvalidPaths } from '../nix/nix-cli.ts';
import type { PublicKey } from '../nix/signature.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import type { PublisherAddress } from '../index/address.ts';
import { torrentOfRecord } from '../index/record.ts';
import { resolveHashMap, type Resolved } from '../index/resolve.ts';
import type { FileStore } from '../store/file-store.ts';
import type { PartialSession } from '../store/session.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import type { Network } from '../torrent/network.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import { referencesFirst, walkClosure, type Closure } from './closure.ts';
import { commit } from './commit.ts';
import {
  firstTrusted,
  RETRIES_WITH_ALTERNATIVE,
  storeSource,
  upstreamSource,
  type NarInfoSource,
} from './find-narinfo.ts';
import type { HttpClient } from './http/client.ts';
import type { Upstream } from './http/upstream.ts';
import { importRoots } from './import.ts';
import { planFetch, type Plan } from './plan.ts';
import type { Progress } from './report.ts';
import { Scheduler } from './scheduler.ts';
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
  /** A NAR is in the store and may be served at once, before its narinfo is there. */
  readonly onHeld?: (torrent: NarTorrent, path: string) => void;
}

export interface PrefetchOptions {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  readonly publishers: readonly PublisherAddress[];
  readonly upstreams: readonly Upstream[];
  /** Target of the import; undefined: the default store of this machine. */
  readonly to?: string | undefined;
  /** Whether `nix copy` runs at the end. */
  readonly copy: boolean;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly limit?: RateLimit | undefined;
  readonly dryRun?: boolean;
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
  readonly closure: Closure;
  readonly plan: Plan;
  readonly roots: readonly StorePath[];
  readonly imported: boolean;
}

/**
 * The main job: walks the closures of the roots, fetches what is missing into the file store, writes the narinfos, and
 * imports it with `nix copy`.
 *
 * @throws NarswarmError of any kind; the signal's reason. Whatever was verified before is in the store.
 */
export async function prefetch(options: PrefetchOptions, context: PrefetchContext): Promise<PrefetchResult> {
  const { store, session, network, http, progress, signal } = context;
  await using stack = new AsyncDisposableStack();
  const maps = new Maps(options, context);
  stack.use(maps);

  const roots = await resolveRoots(options, maps);
  options.onStep?.('walking the closure');
  const sources: NarInfoSource[] = [
    await storeSource(store),
    { name: 'the hash map', find: (hash, linked) => maps.find(hash, linked) },
    ...options.upstreams.map((upstream, index, all) =>
      upstreamSource(upstream, http, index < all.length - 1 ? RETRIES_WITH_ALTERNATIVE : undefined),
    ),
  ];
  const origins = new Map<StoreHash, string>();
  const closure = await walkClosure(roots, firstTrusted(sources, context.keys, origins), { signal });
  await maps.settled();

  const paths = [...closure.values()].map((info) => info.storePath);
  const asksTarget = options.copy || options.to !== undefined;
  const needed = asksTarget ? await queryInvalidPaths(paths, options.to, { signal }) : undefined;
  const plan = await planFetch(closure, { store, needed, torrentOf: (info) => maps.torrentOf(info, signal) });
  options.onPlan?.(plan, closure);
  const rootPaths = roots.flatMap((hash) => closure.get(hash)?.storePath ?? []);
  if (options.dryRun === true) return { closure, plan, roots: rootPaths, imported: false };

  progress.totalNars = plan.jobs.length + plan.unsized.length;
  progress.totalBytes = plan.jobBytes;
  const found = await fetchUnsized(plan.unsized, { ...context, ...options });
  const scheduler = new Scheduler({
    store,
    session,
    network,
    http,
    upstreams: options.upstreams,
    limit: options.limit,
    standstillMs: options.peerTimeoutMs,
    observer: {
      onBytes: progress.onBytes,
      onWarning: progress.onWarning,
      onNar(job) {
        progress.onNar(job);
        if (job.torrent !== undefined) context.onHeld?.(job.torrent, scheduler.pathOf(job));
      },
    },
  });
  await scheduler.run(plan.jobs, signal);

  options.onStep?.('writing narinfos');
  const infos = referencesFirst(closure).map((info) => found.get(info.storePath) ?? info);
  await commit(infos, plan.jobs, store);
  if (!options.copy) return { closure, plan, roots: rootPaths, imported: false };

  options.onStep?.(`nix copy --to ${options.to ?? 'the local store'}`);
  await importRoots(rootPaths, { closure, plan, origins }, { ...context, ...options });
  return { closure, plan, roots: rootPaths, imported: true };
}

async function resolveRoots(options: PrefetchOptions, maps: Maps): Promise<StoreHash[]> {
  const hashes: StoreHash[] = [];
  for (const root of options.roots) hashes.push(asStoreHash(root) ?? (await maps.root(root)));
  return hashes;
}

/** The store hash that a text names by itself, or undefined where it can only be a root's name. */
function asStoreHash(text: string): StoreHash | undefined {
  if (text.includes('/')) return storeHashOf(parseStorePath(text));
  try {
    return parseStoreHash(text);
  } catch {
    return undefined;
  }
}

/** The publishers' hash maps, being resolved while the closure is walked already. */
class Maps implements AsyncDisposable {
  readonly #resolving: Promise<Resolved[]>;
  readonly #options: PrefetchOptions;
  readonly #failures: unknown[] = [];
  #resolved: Resolved[] | undefined;

  constructor(options: PrefetchOptions, context: PrefetchContext) {
    this.#options = options;
    this.#resolving = this.#resolve(context);
    this.#resolving.catch(() => undefined); // awaited in settled(), maybe only after the walk
  }

  async #resolve(context: PrefetchContext): Promise<Resolved[]> {
    const { publishers, publisherTimeoutMs, upstreams } = this.#options;
    const results = await Promise.allSettled(
      publishers.map((address) =>
        resolveHashMap(address, {
          network: context.network,
          getBytes: (url, limits) => context.http.getBytes(url, limits),
          dir: `${context.store.stateDir}/index`,
          now: new Date(),
          timeoutMs: publisherTimeoutMs,
          signal: context.signal,
          onWarning: context.progress.onWarning,
        }),
      ),
    );
    const resolved = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    for (const result of results) if (result.status === 'rejected') this.#failures.push(result.reason);
    this.#resolved = resolved;
    if (this.#failures.length > 0) {
      context.signal.throwIfAborted();
      // With an upstream the closure can be had all the same; without, this is why it cannot.
      if (resolved.length === 0 && upstreams.length === 0) throw this.#failures[0];
      for (const failure of this.#failures)
        context.progress.onWarning(failure instanceof Error ? failure.message : String(failure));
    }
    return resolved;
  }

  /** Waits until every publisher has answered or has had its time. @throws where none did and there is no upstream */
  settled(): Promise<Resolved[]> {
    return this.#resolving;
  }

  /** The path of a named root. @throws ROOT_UNKNOWN */
  async root(name: string): Promise<StoreHash> {
    const known: string[] = [];
    for (const { map } of await this.settled()) {
      const root = map.manifest.roots.find((candidate) => candidate.name === name);
      if (root !== undefined) return storeHashOf(root.path);
      known.push(...map.manifest.roots.map((candidate) => candidate.name));
    }
    if (this.#failures.length > 0) throw this.#failures[0];
    const names =
      known.length === 0 ? 'no hash map names any root' : `the hash maps name: ${known.slice(0, 20).join(', ')}`;
    throw new NarswarmError(
      'ROOT_UNKNOWN',
      `${name} is neither a store path nor the hash part of one nor the name of a root (${names})`,
      { facts: { root: name } },
    );
  }

  /** The record of a path. With upstreams to ask, the walk does not wait for publishers that have not answered yet. */
  async find(hash: StoreHash, signal: AbortSignal): Promise<NarInfo | undefined> {
    const resolved = this.#options.upstreams.length === 0 ? await this.settled() : this.#resolved;
    for (const { map } of resolved ?? []) {
      const record = await map.find(hash, signal);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** The torrent that a map has for exactly this NAR file. */
  async torrentOf(info: NarInfo, signal: AbortSignal): Promise<NarTorrent | undefined> {
    for (const { map } of await this.settled()) {
      try {
        const record = await map.find(storeHashOf(info.storePath), signal);
        const torrent =
          record?.fileHash === info.fileHash && record !== undefined ? torrentOfRecord(record) : undefined;
        if (torrent?.sizeBytes === info.fileSize) return torrent;
      } catch (error) {
        signal.throwIfAborted();
        if (!isNarswarmError(error)) throw error; // a damaged record: this NAR comes from elsewhere
      }
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const resolved = await this.#resolving.catch(() => []);
    await Promise.all(resolved.map((one) => one[Symbol.asyncDispose]()));
  }
}
