import type { FileHash, StoreHash } from '../nix/brands.ts';
import type { Realisation } from '../nix/realisation.ts';
import type { PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { PublisherAddress } from '../index/address.ts';
import { orderUpstreams } from '../fetch/sources/cache-infos.ts';
import { walkClosure, type FindNarInfo } from '../fetch/walk/closure.ts';
import { CommitFeed } from '../fetch/commit/commit-feed.ts';
import { Committer } from '../fetch/commit/commit.ts';
import type { Tell } from '../fetch/events.ts';
import { FetchSources } from '../fetch/sources/fetch-sources.ts';
import { Candidates } from '../fetch/walk/candidates.ts';
import { firstTrusted } from '../fetch/walk/find-narinfo.ts';
import type { NarInfoSource } from '../fetch/sources/narinfo-sources.ts';
import type { NearSources } from '../fetch/sources/near-sources.ts';
import { attachInTime } from '../fetch/plan/planning.ts';
import { realisationIn } from '../fetch/walk/realisations.ts';
import { UpstreamOrder } from '../fetch/scheduler/upstream-order.ts';
import { sourcesInOrder } from '../fetch/walk/walk.ts';
import type { StoreOffer } from '../serve/store-offer.ts';
import type { FileStore } from '../store/file-store.ts';
import { writeRealisations } from '../store/realisations.ts';
import { PartialSession } from '../store/session.ts';
import type { Network } from '../swarm/network.ts';
import { asError } from '../warning.ts';
import type { Arrival } from './arrival.ts';
import { Arrivals } from './arrivals.ts';
import { inTurns } from './in-turns.ts';
import { LookAhead } from './look-ahead.ts';
import { Lookups } from './lookups.ts';
import type { NarInfoMemory } from './narinfo-memory.ts';

/** Time to look for the publishers. Nothing waits for them for longer than a fetch does. */
const PUBLISHER_TIMEOUT_MS = 10_000;

/** The sources of paths that the store lacks. */
export interface ActivitySources {
  /** Sources on the local network. */
  readonly near: readonly NearSources[];
  readonly upstreams: readonly Upstream[];
  readonly publishers: readonly PublisherAddress[];
  /** Publishers that must have a path with the same NarHash. Default: 1, which needs no publisher. */
  readonly require?: number | undefined;
}

export interface ActivityMeans {
  readonly store: FileStore;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly offer: StoreOffer;
  readonly keys: readonly PublicKey[];
  readonly limit?: DirectionLimit | undefined;
  readonly sources: () => Promise<ActivitySources>;
  readonly tell: Tell;
  /** Time without a byte of any NAR after which no client waits for one, in milliseconds. Default: 15,000. */
  readonly stillMs?: number | undefined;
  /** Called when a NAR begins to arrive. */
  readonly onArriving: (arrival: Arrival) => void;
  /** Called with each file that has come from somebody else. */
  readonly onCame: (file: FileHash) => void;
}

/**
 * Everything that is open while Nix asks for paths that the store lacks: sources, walks, and NARs on their way. It ends
 * after some time without questions.
 */
export class Activity implements AsyncDisposable {
  readonly lookups: Lookups;
  readonly lookAhead: LookAhead;
  readonly arrivals: Arrivals;
  /** Finds the contents of a realisation's file in the caches. */
  readonly realisation: (file: string) => Promise<string | undefined>;
  readonly #stop: AbortController;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<Activity, 'lookups' | 'lookAhead' | 'arrivals' | 'realisation'>,
    stop: AbortController,
    stack: AsyncDisposableStack,
  ) {
    this.lookups = parts.lookups;
    this.lookAhead = parts.lookAhead;
    this.arrivals = parts.arrivals;
    this.realisation = parts.realisation;
    this.#stop = stop;
    this.#stack = stack;
  }

  /** @throws STORE_UNWRITABLE; errors of `sources` */
  static async open(means: ActivityMeans, memory: NarInfoMemory): Promise<Activity> {
    const { store, network, http, offer, keys, limit, tell, onArriving, onCame } = means;
    const stop = new AbortController();
    const { signal } = stop;
    await using stack = new AsyncDisposableStack();
    const claimant = stack.use(await PartialSession.open(store));
    const { upstreams, publishers, require, near: lasting } = await means.sources();
    const near = lasting.map(withoutLasting);
    const inPriority = (some: readonly Upstream[]): Promise<readonly Upstream[]> =>
      orderUpstreams(some, { store, http, signal, onWarning: (warning) => tell({ type: 'warning', warning }) });
    const sources = stack.use(
      await FetchSources.open(
        {
          roots: [],
          copy: true,
          dryRun: true, // nothing is imported here, so a Nix store that is away is not created
          publishers,
          require,
          upstreams,
          trustedPublicKeys: [],
          publisherTimeoutMs: PUBLISHER_TIMEOUT_MS,
        },
        { store, session: claimant, network, http, keys, near, tell, signal, orderUpstreams: inPriority },
      ),
    );
    const inOrder = inTurns(
      await sourcesInOrder(NO_ROOTS, {
        store,
        isHere: (info) => offer.here.has(info), // a narinfo is of no use without its NAR
        http,
        keys,
        near,
        maps: sources.maps,
        quorum: sources.quorum,
        upstreams: sources.upstreams,
        target: undefined,
        othersMayHelp: true, // Nix has further caches
      }),
    );
    const origins = new Map<StoreHash, NarInfoSource>();
    const isOfStore = (hash: StoreHash): boolean => origins.get(hash)?.name === store.dir;
    const lookups = new Lookups(firstTrusted(inOrder, keys, origins), isOfStore, memory, signal);
    const target = sources.target?.source([]);
    const warn = (error: unknown): void =>
      tell({ type: 'warning', warning: { kind: 'failed', error: asError(error) } });
    const realisations = new Map<string, Realisation>();
    stack.defer(() => writeRealisations(realisations.values(), store).catch(warn));
    const feed = new CommitFeed(new Committer(store, 'substituter'), { tell });
    stack.defer(() => feed.end({ commits: true }));

    const find: FindNarInfo = async (hash, stopped, path) =>
      (path && (await target?.find(hash, stopped, path))) ?? lookups.find(hash, path);
    const candidates = new Candidates(inOrder(), keys, origins);
    let order = new UpstreamOrder([]);
    let known: readonly Upstream[] = [];
    const arrivals = new Arrivals({
      store,
      claimant,
      network,
      http,
      keys,
      limit,
      candidates,
      held: offer.held,
      contents: 'small',
      mayBeUncompressed: false, // Nix waits for the file that its narinfo named
      tell,
      signal,
      catalogue: async () => {
        await offer.catalogue.refresh();
        return offer.catalogue;
      },
      caches: () => {
        const present = sources.caches;
        if (present.length !== known.length || present.some((one, index) => one !== known[index]))
          order = new UpstreamOrder((known = present));
        return { upstreams: known, order };
      },
      torrentOf: (info) => sources.maps.records.torrentOf(info, signal),
      attach: ({ jobs }) => attachInTime(jobs, sources.maps, { mayBeLate: true, signal }),
      stillMs: means.stillMs,
      onArriving,
      onCame,
      onHere: (infos, job) => feed.add(infos, job),
      onFailed: ({ storePath }) => memory.forget(storeHashOf(storePath)), // its source may have lost it
      extend: async (hashes, of) => ({
        closure: await walkClosure(hashes, find, { signal, known: of, onMissing: () => undefined }),
        needed: undefined,
      }),
    });
    stack.defer(() => arrivals.ended());
    const lookAhead = new LookAhead({
      find,
      isValid: async ({ storePath }) => (await target?.find(storeHashOf(storePath), signal, storePath)) !== undefined,
      onNeeded: (infos) => arrivals.want(infos),
      onValid: (info) => feed.add([info]),
      signal,
    });
    const realisation = async (file: string): Promise<string | undefined> => {
      const prompt = near.flatMap((some) => some.sources.flatMap(({ upstream }) => upstream ?? []));
      const asked = [...prompt, ...sources.upstreams];
      const found = await realisationIn(file, { store, upstreams: asked, http, keys, signal });
      if (found !== undefined) realisations.set(file, found); // written after the narinfo of its path
      return found?.text;
    };
    return new Activity({ lookups, lookAhead, arrivals, realisation }, stop, stack.move());
  }

  /** Stops all fetches. Bytes that have arrived are kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#stack.disposeAsync();
  }
}

const NO_ROOTS = { names: new Map(), paths: [], outsized: undefined } as const;

/** Returns the same sources, which wait only for a moment: Nix has other substituters to ask. */
function withoutLasting(near: NearSources): NearSources {
  return {
    awaited: near.awaited,
    get sources() {
      return near.sources;
    },
    get upstreams() {
      return near.upstreams;
    },
  };
}
