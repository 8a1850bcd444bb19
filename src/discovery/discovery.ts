import { EventEmitter } from 'node:events';
import type { InfoHash } from '../nix/brands.ts';
import type { DhtNode } from './dht.ts';
import { parseEndpoint, type Endpoint } from './endpoint.ts';
import { LanDiscovery } from './lan.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { ForeignAddresses } from './foreign-addresses.ts';
import type { PeerOrigin, PeerRecord, PeerTable } from './peer-table.ts';
import { asError, type Warn } from '../warning.ts';

export interface DiscoveryOptions {
  /** Port at which others reach us. It is announced, unless {@link Discovery.outerPort} is. Peers at this port of our own addresses are ignored. */
  readonly peerPort: number;
  /** Opens the DHT node when there is something to look for. Returns undefined if the DHT is off. */
  readonly openDht: () => Promise<DhtNode | undefined>;
  readonly networks: LocalNetworks;
  /** Decides which addresses named by others are accepted. */
  readonly addresses: ForeignAddresses;
  /** True to look for peers on the local network (BEP 14). */
  readonly lan: boolean;
  /** Address of the interface to use for that. Undefined: all. */
  readonly lanInterface?: string | undefined;
  /** True to announce followed swarms in the DHT. False to ask only. */
  readonly announce: boolean;
  /** True to connect to peers beyond the local network. */
  readonly wan: boolean;
  readonly onWarning?: Warn | undefined;
}

/** BEP 5 nodes forget a peer after 30 minutes at most; asking again also finds newcomers. */
const REANNOUNCE_MS = 15 * 60_000;
/** A process asks more often in its first minute: it may be a fetch, which wants to find all peers at once. */
const EARLY_MS = 15_000;
const EARLY_ROUNDS = 4;
/** While no peer is found, asks again soon, since the other side may just be starting, then less and less often. */
const RETRY_MS = 2_000;
const MAX_RETRY_MS = 60_000;

/**
 * Finds the peers of the swarms that this process follows. A cohort has one swarm, so it announces and asks for one
 * infohash per publisher, however many NARs it has.
 */
export class Discovery extends EventEmitter<{ peer: [peer: PeerRecord] }> implements AsyncDisposable {
  readonly #options: DiscoveryOptions;
  readonly #table: PeerTable;
  /** Followed swarms, each with the controller that ends it. */
  readonly #followed = new Map<InfoHash, AbortController>();
  readonly #stop = new AbortController();
  #lan: LanDiscovery | undefined;
  /** Port of the network's router that leads to ours. Undefined if it has the same number, or none. */
  outerPort: number | undefined;

  private constructor(table: PeerTable, options: DiscoveryOptions) {
    super();
    this.setMaxListeners(0); // every NAR that is being fetched listens for new peers
    this.#table = table;
    this.#options = options;
  }

  static async start(table: PeerTable, options: DiscoveryOptions): Promise<Discovery> {
    const discovery = new Discovery(table, options);
    if (options.lan) {
      discovery.#lan = await LanDiscovery.start({
        peerPort: options.peerPort,
        networks: options.networks,
        infoHashes: () => [...discovery.#followed.keys()],
        onPeer: (peer) => discovery.add(peer, 'lan'),
        ...(options.lanInterface === undefined ? {} : { interfaceAddress: options.lanInterface }),
        onWarning: (error) => options.onWarning?.({ kind: 'failed', error }),
      });
    }
    return discovery;
  }

  /** True if neighbours may appear: this machine looks for them, and has an interface to find them on. */
  get mayMeetNeighbours(): boolean {
    return this.#lan?.hasPlaces === true;
  }

  /** The port at which others reach us from the internet. */
  get announcedPort(): number {
    return this.outerPort ?? this.#options.peerPort;
  }

  /** Returns all peers found so far. */
  candidates(): PeerRecord[] {
    return [...this.#table.all()];
  }

  /** Returns how a peer was found. */
  originOf(address: string): PeerOrigin | undefined {
    return this.#table.get(address)?.origin;
  }

  /** Adds a peer, unless it is ourselves or the scope forbids it. */
  add(endpoint: Endpoint, origin: PeerOrigin): void {
    const { networks, peerPort, wan, addresses } = this.#options;
    const { host, port } = endpoint;
    if (port === peerPort && networks.isOwn(host)) return;
    if (origin !== 'given' && !wan && !networks.includes(host)) return;
    if (origin !== 'given' && !this.#mayLeadThere(host, origin)) return;
    const peer = this.#table.addFound(endpoint, origin, addresses.blockList);
    if (peer !== undefined) this.emit('peer', peer);
  }

  /**
   * Returns true if an address may be connected to. A peer on the LAN may be another process of this machine, as its
   * packets prove. An address from the DHT is only a claim.
   */
  #mayLeadThere(host: string, origin: PeerOrigin): boolean {
    const { addresses } = this.#options;
    return origin === 'dht' ? addresses.admitsForeign(host) : addresses.admits(host);
  }

  /** Adds the peers that a manifest names, `host:port` each. */
  hint(peers: readonly string[]): void {
    for (const peer of peers) this.add(parseEndpoint(peer), 'hint');
  }

  /** Looks for peers of this swarm from now on. Announces us in it if the scope allows. */
  follow(infoHash: InfoHash): void {
    if (this.#followed.has(infoHash)) return;
    const end = this.#begin(infoHash);
    void this.#ask(infoHash, { round: 0, inVain: 0 }, AbortSignal.any([this.#stop.signal, end.signal]));
  }

  /** Looks for peers of this swarm only on the local network, without the DHT. */
  followOnLan(infoHash: InfoHash): void {
    if (!this.#followed.has(infoHash)) this.#begin(infoHash);
  }

  /** Stops looking for peers of this swarm, and stops announcing us in it. Keeps the peers found so far. */
  unfollow(infoHash: InfoHash): void {
    this.#followed.get(infoHash)?.abort();
    this.#followed.delete(infoHash);
  }

  #begin(infoHash: InfoHash): AbortController {
    const end = new AbortController();
    this.#followed.set(infoHash, end);
    this.#lan?.announce();
    return end;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#lan?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @param past number of rounds so far, and number of latest rounds without a result */
  async #ask(infoHash: InfoHash, past: { round: number; inVain: number }, signal: AbortSignal): Promise<void> {
    const { openDht, announce, onWarning } = this.#options;
    let found = 0;
    try {
      const dht = await openDht();
      if (dht === undefined || signal.aborted) return;
      found = await dht.lookup(infoHash, { onPeer: (peer) => this.add(peer, 'dht'), signal });
      if (announce && !signal.aborted) await dht.announce(infoHash, this.announcedPort);
    } catch (error) {
      if (!signal.aborted) onWarning?.({ kind: 'silent-dht', error: asError(error) });
    }
    if (signal.aborted) return;
    const pauseMs = found === 0 ? retryMs(past.inVain) : past.round < EARLY_ROUNDS ? EARLY_MS : REANNOUNCE_MS;
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', end);
      void this.#ask(infoHash, { round: past.round + 1, inVain: found === 0 ? past.inVain + 1 : 0 }, signal);
    }, pauseMs).unref();
    const end = (): void => clearTimeout(timer);
    signal.addEventListener('abort', end, { once: true });
  }
}

/** Returns the pause after a look-up in vain. @param inVain number of look-ups in vain before it */
export function retryMs(inVain: number): number {
  return Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** inVain);
}
