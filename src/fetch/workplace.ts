import type { StorePath } from '../nix/brands.ts';
import type { PublicKey } from '../nix/signature.ts';
import { DryRunStore } from '../store/dry-run-store.ts';
import { FileStore } from '../store/file-store.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { NixWaits } from '../store/nix-waits.ts';
import { RateShares } from '../store/rate-shares.ts';
import { PartialSession } from '../store/session.ts';
import { HashMaps, type HashMapsContext, type HashMapsOptions } from './sources/hash-maps.ts';
import { LanCaches, type LanCachesOptions } from './sources/lan-caches.ts';
import type { NearSources } from './sources/near-sources.ts';
import { NeighbourNarInfos } from './sources/neighbour-narinfos.ts';
import type { Network, NetworkOptions } from '../swarm/network.ts';
import type { Limits } from '../bytes/rate-limits.ts';
import { DelayProbe } from '../http/delay-probe.ts';
import { HttpClient, type HttpClientOptions } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { formatPublisherAddress } from '../index/address.ts';
import { orderUpstreams } from './sources/cache-infos.ts';
import type { ImportWay } from '../nix/programs/import-way.ts';
import { prefetch } from './prefetch.ts';
import { fetchBuild, type FetchedBuild, type WantedBuild } from './fetch-build.ts';
import type { PrefetchContext, PrefetchOptions } from './prefetch-options.ts';
import type { PrefetchResult } from './prefetch-result.ts';
import { realisedPath } from './walk/realisations.ts';
import type { Tell } from './events.ts';
import { TrafficRecorder } from './traffic-recorder.ts';
import type { Warn, Warning } from '../warning.ts';

export interface WorkplaceOptions {
  readonly storeDir: string;
  /** True to only look at the store, and not create it. */
  readonly dryRun?: boolean | undefined;
  readonly keys: readonly PublicKey[];
  /** The keys whose NARs are given to others. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  /** Settings for HTTP. Default: no passwords, and Node's own certificates. */
  readonly http?: HttpClientOptions | (() => Promise<HttpClientOptions>) | undefined;
  /** Undefined: peers are neither asked nor served. */
  readonly network: NetworkOptions | undefined;
  /** Milliseconds to wait for the first neighbour, for a path that no other source has. Default: 1,000. */
  readonly neighbourWaitMs?: number | undefined;
  /** Settings for finding caches that announce themselves on the local network. Default: they are not looked for. */
  readonly lanCaches?: Pick<LanCachesOptions, 'configured' | 'interfaceAddress'> | undefined;
  /** Further sources of narinfos. Default: none. */
  readonly near?: readonly NearSources[];
  /** Default: none. */
  readonly limits?: Limits | undefined;
  /** True to let Nix go first: it may be waiting for NARs that a daemon of this store fetches. Default: false. */
  readonly givesWay?: boolean | undefined;
  /** Default: `auto`. */
  readonly importWith?: ImportWay | undefined;
  /** False to take no patches. Default: true. */
  readonly deltas?: boolean | undefined;
  readonly onWarning: Warn;
}

/** Time for neighbours: they answer within a quarter of a second, then a connection must be made. */
const NEIGHBOUR_WAIT_MS = 1_000;

/**
 * The resources of fetches: a file store, a folder for this process's partial files, an HTTP client, and a place in the
 * network, where fetched NARs are served at once. Opened once, for one fetch or for many.
 */
export class Workplace implements AsyncDisposable {
  readonly store: FileStore;
  readonly http: HttpClient;
  readonly network: Network | undefined;
  readonly #options: WorkplaceOptions;
  readonly #session: PartialSession;
  readonly #offer: StoreOffer;
  readonly #near: readonly NearSources[];
  readonly #traffic: TrafficRecorder | undefined;
  readonly #nixWaits: NixWaits | undefined;
  readonly #stack: AsyncDisposableStack;
  readonly #maps = new Map<string, HashMaps>();
  #isWatching = false;
  readonly #orders = new WeakMap<readonly Upstream[], Promise<readonly Upstream[]>>();

  private constructor(
    options: WorkplaceOptions,
    parts: {
      store: FileStore;
      http: HttpClient;
      network: Network | undefined;
      session: PartialSession;
      offer: StoreOffer;
      near: readonly NearSources[];
      traffic: TrafficRecorder | undefined;
      nixWaits: NixWaits | undefined;
    },
    stack: AsyncDisposableStack,
  ) {
    this.store = parts.store;
    this.http = parts.http;
    this.network = parts.network;
    this.#session = parts.session;
    this.#offer = parts.offer;
    this.#near = parts.near;
    this.#traffic = parts.traffic;
    this.#nixWaits = parts.nixWaits;
    this.#options = options;
    this.#stack = stack;
    stack.defer(() => this.#closeMaps()); // before all that they use
  }

  /**
   * Opens the store and joins the network. Creates the store if it does not exist, except for a dry run.
   *
   * @throws STORE_UNWRITABLE, LISTEN_FAILED
   */
  static async open(options: WorkplaceOptions): Promise<Workplace> {
    const { keys, shareKeys = [], onWarning } = options;
    await using stack = new AsyncDisposableStack();
    const store =
      options.dryRun === true
        ? stack.use(await DryRunStore.open(options.storeDir)).store
        : await FileStore.open(options.storeDir, { create: true });
    const session = stack.use(await PartialSession.open(store));
    const traffic = options.dryRun === true ? undefined : stack.use(new TrafficRecorder(store));
    stack.use(await RateShares.open(store, options.limits));
    const nixWaits = options.givesWay === true ? stack.use(await NixWaits.watch(store)) : undefined;
    const yields = options.limits?.yielding !== undefined;
    const http = stack.use(
      new HttpClient(async () => ({
        ...(typeof options.http === 'function' ? await options.http() : options.http),
        lonelyNars: yields,
      })),
    );
    const { lanCaches } = options;
    const near: NearSources[] = [...(options.near ?? [])];
    if (lanCaches !== undefined)
      near.push(stack.use(LanCaches.start({ ...lanCaches, http, storeDir: store.storeDir, keys })));
    const offer = stack.use(await StoreOffer.open({ store, keys, shareKeys, onWarning }));
    const network =
      options.network &&
      stack.use(await join({ ...options.network, ...offer.forNetwork, limits: options.limits, onWarning }));
    if (network !== undefined && options.network?.lan === true) {
      const { members, discovery } = network;
      const waitMs = options.neighbourWaitMs ?? NEIGHBOUR_WAIT_MS;
      near.unshift(new NeighbourNarInfos({ members, mayAppear: () => discovery.mayMeetNeighbours, keys, waitMs }));
    }
    return new Workplace(options, { store, http, network, session, offer, near, traffic, nixWaits }, stack.move());
  }

  /** Fetches and imports, as {@link prefetch} does. */
  prefetch(options: PrefetchOptions, { tell, signal }: { tell: Tell; signal: AbortSignal }): Promise<PrefetchResult> {
    return prefetch(options, { ...this.#context({ tell, signal }), store: this.store, session: this.#session });
  }

  /** Fetches one build of a path into a store of its own, as {@link fetchBuild} does. */
  fetchBuild(
    build: WantedBuild,
    options: Parameters<typeof fetchBuild>[1],
    { tell, signal }: { tell: Tell; signal: AbortSignal },
  ): Promise<FetchedBuild> {
    return fetchBuild(build, options, this.#context({ tell, signal }));
  }

  #context({ tell, signal }: { tell: Tell; signal: AbortSignal }): Omit<PrefetchContext, 'store' | 'session'> {
    return {
      network: this.network,
      http: this.http,
      keys: this.#options.keys,
      limit: this.#options.limits?.download,
      isHeldBack: this.#nixWaits && (() => this.#nixWaits?.isWaiting === true),
      orderUpstreams: (upstreams) => this.#order(upstreams, signal),
      sharedMaps: (asked, means) => this.#mapsOf(asked, { ...means, store: this.store }),
      near: this.#near,
      tell: (event) => {
        this.#traffic?.take(event);
        tell(event);
      },
      signal,
      held: this.#offer.held,
      importWith: this.#options.importWith,
      deltas: this.#options.deltas,
    };
  }

  /** Finds the path of an output of a derivation, as {@link realisedPath} does. */
  realisedPath(
    drvPath: StorePath,
    outputName: string,
    context: { readonly upstreams: readonly Upstream[]; readonly signal: AbortSignal },
  ): Promise<StorePath | undefined> {
    return realisedPath(drvPath, outputName, {
      ...context,
      store: this.store,
      http: this.http,
      keys: this.#options.keys,
    });
  }

  /** Orders upstreams. All fetches of a run share the order, since they have the same caches. */
  #order(upstreams: readonly Upstream[], signal: AbortSignal): Promise<readonly Upstream[]> {
    const { store, http } = this;
    const { onWarning } = this.#options;
    this.#watchLine(upstreams);
    const ordered = this.#orders.get(upstreams) ?? orderUpstreams(upstreams, { store, http, signal, onWarning });
    this.#orders.set(upstreams, ordered);
    return ordered;
  }

  /** Measures the delay of the internet line from now on if downloads yield to other traffic there. */
  #watchLine(upstreams: readonly Upstream[]): void {
    const { limits, http } = this.#options;
    const yielding = limits?.yielding;
    if (yielding === undefined || this.#isWatching) return;
    this.#isWatching = true;
    const isBeyond = (url: string): boolean => limits?.isNear(new URL(url).hostname) !== true;
    const urls = upstreams.flatMap(({ infoUrl, isLocal }) => (isLocal ? [] : infoUrl));
    this.#stack.use(
      new DelayProbe({
        http,
        urls: () => urls.filter(isBeyond),
        isWanted: () => yielding.isInUse,
        onDelay: (delayMs, isAnswered) => yielding.onDelay(delayMs, isAnswered),
        onBlind: () => yielding.onBlind(),
      }),
    );
  }

  /**
   * Returns hash maps. All fetches of a run share them, so that only the first one waits for a silent publisher. Their
   * warnings are of the run: one may come after the fetch that asked first.
   */
  #mapsOf(asked: HashMapsOptions, means: HashMapsContext): HashMaps {
    const key = JSON.stringify({ ...asked, publishers: asked.publishers.map(formatPublisherAddress) });
    const onWarning = (warning: Warning): void => {
      this.#traffic?.take({ type: 'warning', warning });
      this.#options.onWarning(warning);
    };
    const maps = this.#maps.get(key) ?? new HashMaps(asked, { ...means, onWarning });
    this.#maps.set(key, maps);
    return maps;
  }

  /** Ends the fetches of this workplace. Their paths are still served, and may be collected from now on. */
  async endFetches(): Promise<void> {
    await this.#closeMaps();
    await this.#session[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }

  async #closeMaps(): Promise<void> {
    await using stack = new AsyncDisposableStack();
    for (const maps of this.#maps.values()) stack.use(maps);
    this.#maps.clear();
  }
}

/** Joins the network. Loads its code only if there is somebody to meet. */
async function join(options: NetworkOptions): Promise<Network> {
  const { Network } = await import('../swarm/network.ts');
  return Network.join(options);
}
