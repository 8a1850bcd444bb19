import { EventEmitter } from 'node:events';
import type { InfoHash } from '../nix/brands.ts';
import type { DhtNode } from './dht.ts';
import { parseEndpoint, type Endpoint } from './endpoint.ts';
import { LanDiscovery } from './lan.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { ForeignAddresses } from './foreign-addresses.ts';
import type { PeerOrigin, PeerRecord, PeerTable } from './peer-table.ts';

export interface DiscoveryOptions {
  /** Port that others reach us at, announced and never connected to ourselves. */
  readonly peerPort: number;
  /** Opens the DHT node, the first time that there is something to look for; undefined if the DHT is off. */
  readonly openDht: () => Promise<DhtNode | undefined>;
  readonly networks: LocalNetworks;
  /** Which addresses that others name are taken in. */
  readonly addresses: ForeignAddresses;
  /** Looks for peers on the local network (BEP 14). */
  readonly lan: boolean;
  /** Address of the one interface to use for that, where it is not all of them. */
  readonly lanInterface?: string | undefined;
  /** Tells the DHT that we have what we follow; without it we only ask. */
  readonly announce: boolean;
  /** Whether peers beyond the local network are connected to. */
  readonly wan: boolean;
  readonly onWarning?: ((message: string) => void) | undefined;
}

/** BEP 5 nodes forget a peer after 30 minutes at most; asking again also finds newcomers. */
const REANNOUNCE_MS = 15 * 60_000;
/** In its first minute a process asks more often: it may be a fetch, which wants everybody who is there now. */
const EARLY_MS = 15_000;
const EARLY_ROUNDS = 4;
/** While nobody is found, ask again soon, since the other side may only just be starting, and then less and less. */
const RETRY_MS = 2_000;
const MAX_RETRY_MS = 60_000;

/**
 * Finds the peers of the swarms that this process follows. A cohort has one swarm, so what is announced and asked for
 * is one infohash a publisher, whatever number of NARs it has.
 */
export class Discovery extends EventEmitter<{ peer: [peer: PeerRecord] }> implements AsyncDisposable {
  readonly #options: DiscoveryOptions;
  readonly #table: PeerTable;
  readonly #followed = new Set<InfoHash>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #stop = new AbortController();
  #lan: LanDiscovery | undefined;

  private constructor(table: PeerTable, options: DiscoveryOptions) {
    super();
    this.setMaxListeners(0); // every NAR that is being fetched wants to hear of new peers
    this.#table = table;
    this.#options = options;
  }

  static async start(table: PeerTable, options: DiscoveryOptions): Promise<Discovery> {
    const discovery = new Discovery(table, options);
    if (options.lan) {
      discovery.#lan = await LanDiscovery.start({
        peerPort: options.peerPort,
        networks: options.networks,
        infoHashes: () => [...discovery.#followed],
        onPeer: (peer) => discovery.add(peer, 'lan'),
        ...(options.lanInterface === undefined ? {} : { interfaceAddress: options.lanInterface }),
        onWarning: (error) => options.onWarning?.(error.message),
      });
    }
    return discovery;
  }

  /** Everybody who was found, by any way. */
  candidates(): PeerRecord[] {
    return [...this.#table.all()];
  }

  /** How a peer became known. */
  originOf(address: string): PeerOrigin | undefined {
    return this.#table.get(address)?.origin;
  }

  /** Takes a peer in, unless it is ourselves or the scope forbids it. */
  add(endpoint: Endpoint, origin: PeerOrigin): void {
    const { networks, peerPort, wan, addresses } = this.#options;
    const { host, port } = endpoint;
    if (port === peerPort && networks.isOwn(host)) return;
    if (origin !== 'given' && !wan && !networks.includes(host)) return;
    if (origin !== 'given' && !this.#mayLeadThere(host, origin)) return;
    const peer = this.#table.addFound(endpoint, origin, addresses.blockList);
    if (peer !== undefined) this.emit('peer', peer);
  }

  /** Another process of this machine is found on the LAN, by packets that come from it; what the DHT says is a claim. */
  #mayLeadThere(host: string, origin: PeerOrigin): boolean {
    const { addresses } = this.#options;
    return origin === 'dht' ? addresses.admitsForeign(host) : addresses.admits(host);
  }

  /** Takes in peers that a manifest names, `host:port` each. */
  hint(peers: readonly string[]): void {
    for (const peer of peers) this.add(parseEndpoint(peer), 'hint');
  }

  /** Looks for peers of this swarm from now on, and announces us in it if the scope says so. */
  follow(infoHash: InfoHash): void {
    if (this.#followed.has(infoHash)) return;
    this.#followed.add(infoHash);
    this.#lan?.announce();
    void this.#ask(infoHash, { round: 0, inVain: 0 });
  }

  /** Looks for peers of this swarm on the local network alone: no DHT is asked, and none told. */
  followOnLan(infoHash: InfoHash): void {
    if (this.#followed.has(infoHash)) return;
    this.#followed.add(infoHash);
    this.#lan?.announce();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#lan?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @param past rounds so far, and how many of the last ones have found nobody */
  async #ask(infoHash: InfoHash, past: { round: number; inVain: number }): Promise<void> {
    const { openDht, announce, peerPort, onWarning } = this.#options;
    let found = 0;
    try {
      const dht = await openDht();
      if (dht === undefined || this.#stop.signal.aborted) return;
      found = await dht.lookup(infoHash, { onPeer: (peer) => this.add(peer, 'dht'), signal: this.#stop.signal });
      if (announce) await dht.announce(infoHash, peerPort);
    } catch (error) {
      if (!this.#stop.signal.aborted) onWarning?.(`the DHT did not answer: ${(error as Error).message}`);
    }
    if (this.#stop.signal.aborted) return;
    const pauseMs = found === 0 ? retryMs(past.inVain) : past.round < EARLY_ROUNDS ? EARLY_MS : REANNOUNCE_MS;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void this.#ask(infoHash, { round: past.round + 1, inVain: found === 0 ? past.inVain + 1 : 0 });
    }, pauseMs).unref();
    this.#timers.add(timer);
  }
}

/** How long to wait after that many lookups, and one more, have found nobody. */
export function retryMs(inVain: number): number {
  return Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** inVain);
}
