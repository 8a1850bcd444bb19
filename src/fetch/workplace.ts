import type { StorePath } from '../nix/brands.ts';
import type { PublicKey } from '../nix/signature.ts';
import { DryRunStore } from '../store/dry-run-store.ts';
import { FileStore } from '../store/file-store.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import { PartialSession } from '../store/session.ts';
import { LanCaches, type LanCachesOptions } from './lan-caches.ts';
import type { NearSources } from './near-sources.ts';
import { NeighbourNarInfos } from './neighbour-narinfos.ts';
import type { Network, NetworkOptions } from '../swarm/network.ts';
import type { RateLimits } from '../bytes/rate-limits.ts';
import { HttpClient, type HttpClientOptions } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { orderUpstreams } from './cache-infos.ts';
import { prefetch, type PrefetchOptions, type PrefetchResult } from './prefetch.ts';
import { realisedPath } from './realisations.ts';
import type { Tell } from './events.ts';

export interface WorkplaceOptions {
  readonly storeDir: string;
  /** Whether the store is only looked at, and not made where there is none. */
  readonly dryRun?: boolean | undefined;
  readonly keys: readonly PublicKey[];
  /** Those of them whose NARs are given to others. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  /** How to download. Default: without passwords, by the certificates that Node brings. */
  readonly http?: HttpClientOptions | (() => Promise<HttpClientOptions>) | undefined;
  /** undefined: peers are neither asked nor served. */
  readonly network: NetworkOptions | undefined;
  /** Milliseconds that a path which nobody else has waits for the first neighbour. Default: 1,000. */
  readonly neighbourWaitMs?: number | undefined;
  /** How to look for caches that announce themselves on the local network. Default: not at all. */
  readonly lanCaches?: Pick<LanCachesOptions, 'configured' | 'interfaceAddress'> | undefined;
  /** Default: none. */
  readonly limits?: RateLimits | undefined;
  readonly onWarning: (message: string) => void;
}

/** Neighbours answer within a quarter of a second, and have to be connected to. */
const NEIGHBOUR_WAIT_MS = 1_000;

/**
 * What fetches work with: a file store, a folder for this process's partial files, an HTTP client and a place in the
 * network, where what was fetched is served at once. Opened once, for one fetch or for many.
 */
export class Workplace implements AsyncDisposable {
  readonly store: FileStore;
  readonly http: HttpClient;
  readonly network: Network | undefined;
  readonly #options: WorkplaceOptions;
  readonly #session: PartialSession;
  readonly #offer: StoreOffer;
  readonly #near: readonly NearSources[];
  readonly #stack: AsyncDisposableStack;
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
    },
    stack: AsyncDisposableStack,
  ) {
    this.store = parts.store;
    this.http = parts.http;
    this.network = parts.network;
    this.#session = parts.session;
    this.#offer = parts.offer;
    this.#near = parts.near;
    this.#options = options;
    this.#stack = stack;
  }

  /**
   * Opens the store, makes it where there is none (but for a dry run), and joins the network.
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
    const http = stack.use(new HttpClient(options.http));
    const { lanCaches } = options;
    const near: NearSources[] = [];
    if (lanCaches !== undefined)
      near.push(stack.use(LanCaches.start({ ...lanCaches, http, storeDir: store.storeDir, keys })));
    const offer = stack.use(await StoreOffer.open({ store, keys, shareKeys, onWarning }));
    const network =
      options.network &&
      stack.use(await join({ ...options.network, ...offer.forNetwork, limits: options.limits, onWarning }));
    if (network !== undefined && options.network?.lan === true) {
      const { members } = network;
      near.unshift(new NeighbourNarInfos({ members, keys, waitMs: options.neighbourWaitMs ?? NEIGHBOUR_WAIT_MS }));
    }
    return new Workplace(options, { store, http, network, session, offer, near }, stack.move());
  }

  /** Fetches and imports, as {@link prefetch} does. */
  prefetch(options: PrefetchOptions, { tell, signal }: { tell: Tell; signal: AbortSignal }): Promise<PrefetchResult> {
    return prefetch(options, {
      store: this.store,
      session: this.#session,
      network: this.network,
      http: this.http,
      keys: this.#options.keys,
      limit: this.#options.limits?.download,
      orderUpstreams: (upstreams) => this.#order(upstreams, signal),
      near: this.#near,
      tell,
      signal,
      held: this.#offer.held,
    });
  }

  /** Finds what an output of a derivation has become, as {@link realisedPath} does. */
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

  /** Once for all fetches of a run: each has the same caches. */
  #order(upstreams: readonly Upstream[], signal: AbortSignal): Promise<readonly Upstream[]> {
    const { store, http } = this;
    const { onWarning } = this.#options;
    const ordered = this.#orders.get(upstreams) ?? orderUpstreams(upstreams, { store, http, signal, onWarning });
    this.#orders.set(upstreams, ordered);
    return ordered;
  }

  /** Ends the fetches of this workplace; what they needed is served on, and may be collected. */
  endFetches(): Promise<void> {
    return this.#session[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Joins the network; WebTorrent is loaded only where somebody is to be met: that takes a tenth of a second. */
async function join(options: NetworkOptions): Promise<Network> {
  const { Network } = await import('../swarm/network.ts');
  return Network.join(options);
}
