import { setTimeout as sleep } from 'node:timers/promises';
import { HttpClient, type HttpClientOptions } from '../http/client.ts';
import type { PortMapping } from '../discovery/gateway/mapping.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { RankFiles } from '../index/within-budget.ts';
import type { FileHash } from '../nix/brands.ts';
import type { WantedFile } from '../exchange/member.ts';
import { prefixOf } from '../exchange/messages/messages.ts';
import type { PublicKey } from '../nix/signature.ts';
import { joinAtLastPort, type Publisher } from '../publish/publisher.ts';
import { StoreOffer } from '../serve/store-offer.ts';
import type { FileStore } from '../store/file-store.ts';
import { RateShares } from '../store/rate-shares.ts';
import type { GivenBytes } from '../substituter/given.ts';
import { Network, type NetworkOptions } from '../swarm/network.ts';
import { asError, type Warn } from '../warning.ts';
import { announceNars } from './announce-nars.ts';
import { Census } from './census.ts';
import { Copies } from './copies.ts';
import { gatherFacts, type DaemonFacts } from './facts.ts';
import { FollowedMaps, type Followed } from './followed-maps.ts';
import { OwnMap, type OwnMapOptions } from './own-map.ts';
import type { DaemonMeans } from './substituting.ts';

/** Interval at which NARs that a fetch has added are noticed and seeded. */
const LOOK_MS = 1_000;
/** Advantage of a NAR that is here when NARs are ranked: it is replaced only by one with at least two fewer holders. */
const HELD_IS_RARER_BY = 1.5;

export interface DaemonOptions {
  readonly store: FileStore;
  readonly keys: readonly PublicKey[];
  /** The keys whose NARs are given to others. Default: none. */
  readonly shareKeys?: readonly PublicKey[];
  /** Publishers to follow while the daemon runs. */
  readonly publishers: readonly PublisherAddress[];
  readonly network: NetworkOptions;
  /** Options for HTTP requests. Default: no passwords, and Node's own certificates. */
  readonly http?: HttpClientOptions | (() => Promise<HttpClientOptions>) | undefined;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  /**
   * TCP ports for the followed maps over HTTP, unless this daemon publishes its own map. The first free one is used.
   * Default: none.
   */
  readonly httpPorts?: readonly number[];
  /** This machine's own hash map, if it publishes one. */
  readonly publish?: OwnMapOptions | undefined;
  /** Returns further publishers to follow. Called every second: subscriptions come and go. */
  readonly alsoFollow?: () => Promise<readonly PublisherAddress[]>;
  /** Returns the ports that the network's router maps to this machine. Undefined without `--map-port`. */
  readonly portMapping?: () => PortMapping | undefined;
  /** Returns the URLs at which Nix is served. */
  readonly substituters?: () => readonly string[];
  /** Returns the sums of bytes given over HTTP so far. Undefined if Nix is not served. */
  readonly given?: () => GivenBytes | undefined;
  /** Returns the names of the mirrors that are being updated. */
  readonly updating?: () => readonly string[];
  /** Called when a member is connected, which may hold missing NARs. */
  readonly onMember?: () => void;
  /** Called when an edition of a followed map is complete here. */
  readonly onFollowed?: (address: PublisherAddress, edition: Followed) => void;
}

/** Seeds the NARs of a file store that the gate lets out, and the hash maps that the daemon follows. */
export class Daemon implements AsyncDisposable {
  readonly network: Network;
  readonly #options: DaemonOptions;
  readonly #offer: StoreOffer;
  readonly #stop = new AbortController();
  readonly #http: HttpClient;
  readonly #ownMap: OwnMap | undefined;
  readonly #census: Census;
  readonly #copies: Copies;
  readonly #startedAt = new Date();
  /** Divides the rate limits among the processes of this store. */
  #shares: AsyncDisposable | undefined;
  readonly #followed: FollowedMaps;

  private constructor(options: DaemonOptions, network: Network, offer: StoreOffer) {
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#options = { ...options, signal };
    this.network = network;
    this.#http = new HttpClient(options.http);
    this.#offer = offer;
    this.#census = new Census(network.members, (host) => network.networks.isOwn(host));
    const { store, keys, shareKeys = [], onWarning, publish } = options;
    const context = { store, keys, shareKeys, network: options.network, signal, onWarning };
    this.#ownMap = publish && new OwnMap(publish, context, { network, offer });
    const { catalogue, forMembers } = offer;
    this.#copies = new Copies({
      store,
      catalogue,
      network,
      census: this.#census,
      offer: forMembers,
      signal,
      onWarning,
    });
    this.#followed = new FollowedMaps(this.#options, {
      network,
      http: this.#http,
      offer,
      publisher: () => this.publisher,
    });
    network.members.on('member', () => options.onMember?.());
  }

  /** @throws LISTEN_FAILED, STORE_UNWRITABLE */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { store, onWarning, publish } = options;
    const offer = await StoreOffer.open(options);
    const how: NetworkOptions = { ...options.network, ...offer.forNetwork, isKnown: true, onWarning };
    await using stack = new AsyncDisposableStack();
    const network = await (publish === undefined ? Network.join(how) : joinAtLastPort({ ...publish, store }, how));
    const daemon = stack.use(new Daemon(options, network, offer));
    daemon.#shares = await RateShares.open(store, options.network.limits);
    await daemon.#ownMap?.refresh();
    const publishers = await daemon.#followed.wanted();
    const looksUp = publishers.length > 0 || daemon.publisher !== undefined;
    if (looksUp || options.network.scope === 'public') await network.openDht(); // now, so that a port in use is reported
    if (publishers.length > 0) await daemon.#followed.serve();
    for (const address of publishers) daemon.#followed.follow(address);
    daemon.#work();
    stack.move();
    return daemon;
  }

  /** The publisher of this machine's own map. Undefined until there is something to publish. */
  get publisher(): Publisher | undefined {
    return this.#ownMap?.publisher;
  }

  /** The parts of this daemon that its substituter uses. */
  get means(): DaemonMeans {
    return { store: this.#options.store, network: this.network, http: this.#http, offer: this.#offer };
  }

  /** Number of NARs that were requested and whose pieces are known. */
  get nars(): number {
    return this.#offer.catalogue.size;
  }

  /** The facts of this moment. */
  get facts(): DaemonFacts {
    const { store, network, updating, portMapping, substituters, given } = this.#options;
    return gatherFacts({
      startedAt: this.#startedAt,
      storeDir: store.dir,
      scope: network.scope,
      network: this.network,
      offer: this.#offer,
      followed: this.#followed.all,
      publisher: this.publisher,
      mapPort: this.publisher?.http.port ?? this.#followed.port,
      portMapping: portMapping?.(),
      substituters: substituters?.() ?? [],
      replicas: this.#copies.last,
      updating: updating?.() ?? [],
      given: given?.(),
    });
  }

  /**
   * Ranks files by the number of other machines that hold them now, the rarest first. A file that is here counts as
   * slightly rarer: otherwise two mirrors would replace each other's files for ever.
   */
  readonly rankFiles: RankFiles = async (files, signal) => {
    const { forMembers } = this.#offer;
    const ranks = new Map<FileHash, number>();
    const onAnswer = ({ file }: WantedFile, hosts: ReadonlySet<string>): void => {
      const isHere = forMembers.holds(prefixOf(file)) === 'whole';
      ranks.set(file, hosts.size - (isHere ? HELD_IS_RARER_BY : 0));
    };
    await this.#census.ask(files, onAnswer, signal);
    return (file) => ranks.get(file) ?? 0;
  };

  /** Returns true if a connected member holds one of these NARs. @throws the signal's reason */
  isHeldElsewhere(nars: ReadonlyMap<FileHash, number>, signal: AbortSignal): Promise<boolean> {
    const files = Array.from(nars, ([file, sizeBytes]) => ({ file, sizeBytes }));
    return this.#census.findsAny(files, signal);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#ownMap?.[Symbol.asyncDispose]();
    await this.#followed[Symbol.asyncDispose]();
    await this.#http.close();
    await this.#shares?.[Symbol.asyncDispose]();
    await this.network.close();
    await this.#offer[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Starts the work that continues until the daemon ends. */
  #work(): void {
    const { signal } = this.#options;
    const { catalogue, checker } = this.#offer;
    void this.#repeat(() => this.#look());
    void this.#repeat(() => checker.checkAll(signal)); // only checked NARs can be served
    void this.#copies.run();
    if (this.#options.network.scope === 'public') void announceNars(catalogue, this.network, signal);
  }

  /** Repeats some work, with a pause of a second. */
  async #repeat(work: () => Promise<void>): Promise<void> {
    const { signal, onWarning } = this.#options;
    while (!signal.aborted) {
      try {
        await work();
      } catch (error) {
        if (!signal.aborted) onWarning({ kind: 'failed', error: asError(error) });
      }
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Notices new NARs, new contents of the own map, and changed subscriptions. */
  async #look(): Promise<void> {
    await this.#offer.catalogue.refresh();
    await this.#ownMap?.refresh();
    await this.#followed.look();
  }
}
