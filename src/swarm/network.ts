import type { InfoHash } from '../nix/brands.ts';
import type { DhtNode } from '../discovery/dht.ts';
import { DhtOnDemand } from '../discovery/dht-on-demand.ts';
import { Discovery } from '../discovery/discovery.ts';
import type { Endpoint } from '../discovery/endpoint.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import { ForeignAddresses, isLoopback } from '../discovery/foreign-addresses.ts';
import type { Limits } from '../bytes/rate-limits.ts';
import { mayHave } from '../discovery/connection-guard.ts';
import { PeerTable, type PeerRecord } from '../discovery/peer-table.ts';
import type { Scope } from '../discovery/scope.ts';
import type { Subnet } from '../discovery/subnet.ts';
import { Members } from '../exchange/members.ts';
import { EmptyOffer, type Offer } from '../exchange/answers/offer.ts';
import { SendBudget } from '../wire/send-budget.ts';
import { Swarm, type SwarmOptions } from './swarm.ts';
import type { Warn } from '../warning.ts';

export interface NetworkOptions {
  readonly scope: Scope;
  /** Address to listen on, TCP and UDP. Default: all of them. */
  readonly listen?: string | undefined;
  /** TCP ports for peers. The first free one is used; 0 is any. Default: any. */
  readonly ports?: readonly number[] | undefined;
  /** True to open a DHT node on first use: see {@link Network.openDht}. */
  readonly dht: boolean;
  /** UDP ports of the DHT node. The first free one is used; 0 is any. Default: any. */
  readonly dhtPorts?: readonly number[] | undefined;
  /** Bootstrap nodes of the DHT. Undefined: the public ones. */
  readonly dhtBootstrap?: readonly Endpoint[] | undefined;
  readonly lan: boolean;
  /** Networks that count as local besides those of the interfaces. Default: none. */
  readonly lanNetworks?: readonly Subnet[] | undefined;
  /** Groups of neighbours to join, only on the local network. Default: none. */
  readonly neighbours?: readonly InfoHash[] | undefined;
  /** True if ordinary BitTorrent clients should find fetched NARs at once, even if nothing is announced. */
  readonly givesTorrents?: boolean;
  /** True to deal only with members of the joined groups, and not with ordinary BitTorrent clients. Default: false. */
  readonly onlyMembers?: boolean;
  /** True if peers may be named later, or may know the address of this process. Default: false */
  readonly isKnown?: boolean;
  /** Peers named by the user. */
  readonly peers: readonly Endpoint[];
  /** Default: none. */
  readonly limits?: Limits | undefined;
  /** The NARs and narinfos that members may get. Default: none. */
  readonly offer?: Offer | undefined;
  readonly seeds?: NonNullable<SwarmOptions['seeds']>;
  readonly seedable?: NonNullable<SwarmOptions['seedable']>;
  readonly onWarning?: Warn;
  readonly onUpload?: NonNullable<SwarmOptions['onUpload']>;
}

/** Payload bytes that this process has sent. */
export interface SentBytes {
  toMembers: number;
  /** To clients that only speak BitTorrent. */
  toClients: number;
}

/** This process's place among the peers: the swarm, the DHT node, and the peers found so far. */
export class Network implements AsyncDisposable {
  readonly swarm: Swarm;
  /** The members of the joined groups, and their files. */
  readonly members: Members;
  readonly discovery: Discovery;
  /** Decides which hosts are on the local network. */
  readonly networks: LocalNetworks;
  /** True if the scope allows announcements beyond the local network. */
  readonly announces: boolean;
  /** True if ordinary BitTorrent clients should find fetched NARs at once. */
  readonly givesTorrents: boolean;
  readonly sent: Readonly<SentBytes>;
  readonly #onlyMembers: boolean;
  readonly #looks: boolean;
  readonly #dht: DhtOnDemand;
  #hasJoined = false;
  /** Number of look-ups of hash maps that may name peers. */
  #lookUps = 0;

  private constructor(parts: {
    swarm: Swarm;
    members: Members;
    dht: DhtOnDemand;
    discovery: Discovery;
    networks: LocalNetworks;
    announces: boolean;
    givesTorrents: boolean;
    onlyMembers: boolean;
    looks: boolean;
    sent: SentBytes;
  }) {
    this.swarm = parts.swarm;
    this.members = parts.members;
    this.#dht = parts.dht;
    this.discovery = parts.discovery;
    this.networks = parts.networks;
    this.announces = parts.announces;
    this.givesTorrents = parts.givesTorrents;
    this.sent = parts.sent;
    this.#onlyMembers = parts.onlyMembers;
    this.#looks = parts.looks;
  }

  /** @throws LISTEN_FAILED */
  static async join(options: NetworkOptions): Promise<Network> {
    const { scope, listen, onWarning, onlyMembers = false } = options;
    await using stack = new AsyncDisposableStack();
    const networks = new LocalNetworks(undefined, options.lanNetworks);
    const named = [listen, ...[...options.peers, ...(options.dhtBootstrap ?? [])].map(({ host }) => host)];
    const onLoopback = named.some((host) => host !== undefined && isLoopback(host));
    const addresses = new ForeignAddresses({ onLoopback });
    const isPublic = scope === 'cohort' || scope === 'public';
    const serves = isPublic ? 'anyone' : scope === 'lan' ? 'lan' : 'nobody';
    const peers = new PeerTable();
    const sent: SentBytes = { toMembers: 0, toClients: 0 };
    const budget = new SendBudget(); // one budget for all that is sent, in any protocol
    const members = new Members({
      budget,
      port: () => swarm.port,
      peers,
      networks,
      mayHave: (host) => mayHave(serves, host, networks),
      offer: options.offer ?? new EmptyOffer(),
      downloadLimit: (host) => options.limits?.download.towards(host),
      uploadLimit: (host) => options.limits?.upload.towards(host),
      onUpload: (bytes) => void (sent.toMembers += bytes),
    });
    stack.defer(() => members.close());
    const swarm: Swarm = stack.use(
      await Swarm.listen({
        peers,
        members,
        onlyMembers,
        budget,
        host: listen,
        ports: options.ports,
        networks,
        serves,
        downloadLimit: options.limits?.download,
        uploadLimit: options.limits?.upload,
        ...(options.seeds === undefined ? {} : { seeds: options.seeds }),
        ...(options.seedable === undefined ? {} : { seedable: options.seedable }),
        ...(onWarning === undefined ? {} : { onWarning }),
        onUpload: (infoHash, bytes) => {
          sent.toClients += bytes;
          options.onUpload?.(infoHash, bytes);
        },
      }),
    );
    const dht = stack.use(
      new DhtOnDemand(
        options.dht
          ? {
              addresses,
              ...(listen === undefined ? {} : { host: listen }),
              ...(options.dhtPorts === undefined ? {} : { ports: options.dhtPorts }),
              ...(options.dhtBootstrap === undefined ? {} : { bootstrap: options.dhtBootstrap }),
            }
          : undefined,
      ),
    );
    const discovery = stack.use(
      await Discovery.start(swarm.peers, {
        peerPort: swarm.port,
        openDht: () => dht.open(),
        networks,
        addresses,
        lan: options.lan,
        lanInterface: listen === '0.0.0.0' || listen === '::' ? undefined : listen,
        announce: isPublic,
        wan: scope !== 'off',
        onWarning,
      }),
    );
    for (const peer of options.peers) discovery.add(peer, 'given');
    const givesTorrents = !onlyMembers && (isPublic || options.givesTorrents === true);
    const looks = options.lan || (options.dht && scope !== 'off') || options.isKnown === true;
    const own = { swarm, members, dht, discovery, networks };
    const network = new Network({ ...own, announces: isPublic, givesTorrents, onlyMembers, looks, sent });
    for (const group of options.neighbours ?? []) {
      members.join(group, { isNear: true });
      discovery.followOnLan(group);
      network.#meetFound();
    }
    stack.move();
    return network;
  }

  /** The DHT node. Undefined until it is open. */
  get dht(): DhtNode | undefined {
    return this.#dht.node;
  }

  /**
   * Opens the DHT node on the first call, and starts to look for others. Before that call, which a publisher or an
   * announcement needs, nothing is sent beyond the local network.
   *
   * @returns undefined if the DHT is off
   * @throws LISTEN_FAILED; the next call tries again
   */
  openDht(): Promise<DhtNode | undefined> {
    return this.#dht.open();
  }

  /**
   * Joins the followers of a publisher: looks for them, connects to some, and announces this machine if the scope
   * allows.
   */
  joinCohort(infoHash: InfoHash): void {
    this.members.join(infoHash);
    this.discovery.follow(infoHash);
    this.#meetFound();
  }

  /** Leaves the followers of a publisher, and no longer announces this machine among them. */
  leaveCohort(infoHash: InfoHash): void {
    this.members.leave(infoHash);
    this.discovery.unfollow(infoHash);
  }

  /** Makes members connect to the peers found so far, and to those found later. */
  #meetFound(): void {
    for (const peer of this.discovery.candidates()) this.members.addPeer(peer);
    if (this.#hasJoined) return;
    this.#hasJoined = true;
    this.discovery.on('peer', (peer) => this.members.addPeer(peer));
  }

  /** Counts a look-up that may name peers, until it is disposed of. */
  expectHints(): Disposable {
    this.#lookUps++;
    return { [Symbol.dispose]: () => void this.#lookUps-- };
  }

  /** False if no peer is known, and none can come. */
  get mayMeet(): boolean {
    return this.#lookUps > 0 || this.mayFind;
  }

  /** False if no peer is known, and nothing but look-ups of hash maps can name one. */
  get mayFind(): boolean {
    if (this.#looks || this.members.open.size > 0) return true;
    return this.discovery.candidates().some(({ banned }) => banned === undefined);
  }

  /** Returns the found peers that are not members of our groups: clients that only speak BitTorrent. */
  foreigners(): PeerRecord[] {
    if (this.#onlyMembers) return [];
    return this.discovery.candidates().filter((peer) => this.members.isForeign(peer));
  }

  async close(): Promise<void> {
    this.members.close();
    await this.discovery.close();
    await Promise.all([this.swarm.close(), this.#dht[Symbol.asyncDispose]()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
