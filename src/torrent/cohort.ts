import type Wire from 'bittorrent-protocol';
import type Torrent from 'webtorrent/lib/torrent.js';
import { sha1 } from './hash-thread.ts';
import { PIECE_HASH_BYTES, type NarTorrent } from './canonical.ts';
import { connectPeer } from './connect-peer.ts';
import { useNarExchange, type NarExchange, type ServeNar } from './nar-exchange.ts';
import type { PeerRecord, PeerTable } from './peer-table.ts';

/** Members that we keep a connection to. */
const MEMBERS = 12;
/** A member whose connection ended is tried again after so long. */
const RECONNECT_MS = 10_000;
/** How long a NAR waits for the first connection to a member. */
const CONNECT_MS = 1_000;

/**
 * The members of the cohorts that this process follows, each over one connection, and the small NARs that they give
 * each other over it.
 */
export class Cohort {
  readonly #peers: PeerTable;
  readonly #serve: ServeNar;
  readonly #exchanges = new Set<NarExchange>();
  readonly #swarms: Torrent[] = [];
  readonly #members = new Set<PeerRecord>();
  readonly #connecting = new Set<string>();
  readonly #notBefore = new Map<string, number>();
  #isReady = Promise.withResolvers<void>();

  constructor(peers: PeerTable, serve: ServeNar) {
    this.#peers = peers;
    this.#serve = serve;
  }

  /** Meets others in the swarm of a cohort: a torrent without metadata, where nothing but the exchange happens. */
  meet(swarm: Torrent): void {
    this.#swarms.push(swarm);
    swarm.on('wire', (wire: Wire) => {
      // There is no metadata of a cohort: a stranger must not make us hold 10 MB of what he says is it.
      wire.ut_metadata.cancel();
      const exchange = useNarExchange(wire, this.#serve);
      wire.once('close', () => this.#exchanges.delete(exchange));
      wire.on('extended', () => {
        if (!exchange.isOpen || this.#exchanges.has(exchange)) return;
        this.#exchanges.add(exchange);
        this.#isReady.resolve();
      });
    });
  }

  /** Takes in a member; it is connected to as soon as there is a place for it. */
  addMember(peer: PeerRecord): void {
    this.#members.add(peer);
    this.#fill();
  }

  /** Connects to members that are not connected, as many as there are places; to nobody once a swarm is closed. */
  #fill(): void {
    if (this.#swarms.some((swarm) => swarm.destroyed)) return;
    const now = performance.now();
    for (const peer of this.#members) {
      const { address, banned } = peer;
      if (this.#connecting.size >= MEMBERS) return;
      if (banned !== undefined || this.#connecting.has(address) || now < (this.#notBefore.get(address) ?? 0)) continue;
      this.#connecting.add(address);
      for (const swarm of this.#swarms) connectPeer(swarm, peer, () => this.#onGone(address));
    }
  }

  /** A place is free; who left it is not the first to get it again. */
  #onGone(address: string): void {
    this.#connecting.delete(address);
    this.#notBefore.set(address, performance.now() + RECONNECT_MS);
    this.#fill();
    setTimeout(() => this.#fill(), RECONNECT_MS + 1).unref();
  }

  /**
   * Asks the members for a NAR of one piece, one after another, the least busy first. A member that sends other bytes
   * is banned, one that sends nothing for `patienceMs` is passed over.
   *
   * @returns its bytes, whose SHA-1 fits the torrent, and who sent them; undefined where no member has it
   */
  async request(
    torrent: NarTorrent,
    options: { onLie: (address: string) => void; patienceMs: number; signal: AbortSignal },
  ): Promise<{ bytes: Uint8Array; address: string } | undefined> {
    if (torrent.pieces.length !== PIECE_HASH_BYTES) return undefined;
    if (this.#exchanges.size === 0) await this.#connected();
    const asked = new Set<NarExchange>();
    for (;;) {
      const exchange = this.#leastBusy(torrent, asked);
      if (exchange === undefined) return undefined;
      asked.add(exchange);
      const bytes = await exchange.ask(torrent.infoHash, torrent.sizeBytes, options);
      if (bytes === undefined) {
        if (options.signal.aborted) return undefined;
        continue;
      }
      const { address } = exchange;
      if ((await sha1(bytes)) === Buffer.from(torrent.pieces).toString('hex')) {
        const record = this.#peers.get(address);
        if (record !== undefined) record.bytes += bytes.length;
        return { bytes, address };
      }
      this.#peers.ban(address, 'sent a NAR that fails its SHA-1');
      options.onLie(address);
      exchange.drop();
    }
  }

  #leastBusy(torrent: NarTorrent, asked: ReadonlySet<NarExchange>): NarExchange | undefined {
    let best: NarExchange | undefined;
    for (const exchange of this.#exchanges) {
      if (!exchange.isOpen || asked.has(exchange) || exchange.lacks(torrent.infoHash)) continue;
      if (best === undefined || exchange.inFlightBytes < best.inFlightBytes) best = exchange;
    }
    return best;
  }

  /** Waits for the first connection, a moment, where one is being made. */
  async #connected(): Promise<void> {
    if (this.#connecting.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([this.#isReady.promise, new Promise((resolve) => (timer = setTimeout(resolve, CONNECT_MS)))]);
    clearTimeout(timer);
  }
}
