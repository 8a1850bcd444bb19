import type { BlockList } from 'node:net';
import { formatEndpoint, type Endpoint } from './endpoint.ts';

/** What a peer did for us so far in this process. */
export interface PeerRecord {
  readonly endpoint: Endpoint;
  readonly address: string;
  /** Addresses that its name must not lead to, if a stranger gave it. */
  blockList?: BlockList | undefined;
  /** Connections in which it had the torrent. */
  hits: number;
  /** Connections that it refused or that led nowhere. */
  misses: number;
  /** When the last of them was; milliseconds of `performance.now()`. */
  missedAtMs: number;
  /** Payload bytes that it sent. */
  bytes: number;
  /** Best rate of any connection, bytes a second. */
  rate: number;
  /** Why it is not asked again, once it lied. */
  banned: string | undefined;
}

/** Misses without one hit after which a peer is left in peace for a while: it may be fetching itself. */
const USELESS_AFTER = 16;
const USELESS_FOR_MS = 5_000;

/** The peers that this process knows, and how far each can be relied on. */
export class PeerTable {
  readonly #byAddress = new Map<string, PeerRecord>();
  readonly #bannedHosts = new Set<string>();

  add(endpoint: Endpoint): PeerRecord {
    const address = formatEndpoint(endpoint);
    let record = this.#byAddress.get(address);
    if (record === undefined) {
      record = { endpoint, address, hits: 0, misses: 0, missedAtMs: 0, bytes: 0, rate: 0, banned: undefined };
      this.#byAddress.set(address, record);
    }
    return record;
  }

  get(address: string): PeerRecord | undefined {
    return this.#byAddress.get(address);
  }

  /**
   * Never connects to this peer again in this process. One that is not in the table connected to us, from a port that
   * means nothing: its host gets no further connection.
   */
  ban(address: string, reason: string): void {
    const record = this.#byAddress.get(address);
    if (record === undefined) this.#bannedHosts.add(address.slice(0, address.lastIndexOf(':')));
    else record.banned ??= reason;
  }

  /** True for the address, as node:net gives it, of a host that connected to us and lied. */
  isBannedHost(host: string): boolean {
    return this.#bannedHosts.has(host);
  }

  all(): IterableIterator<PeerRecord> {
    return this.#byAddress.values();
  }

  /** Up to `count` peers to ask next: those that had what we asked for first, strangers then, those who had nothing after a while. */
  choose(count: number, candidates: Iterable<PeerRecord>): PeerRecord[] {
    const now = performance.now();
    const isUseless = ({ hits, misses, missedAtMs }: PeerRecord): boolean =>
      hits === 0 && misses >= USELESS_AFTER && now - missedAtMs < USELESS_FOR_MS;
    const usable = [...candidates].filter((peer) => peer.banned === undefined && !isUseless(peer));
    const score = (peer: PeerRecord): number => (peer.hits + 1) / (peer.hits + peer.misses + 2) + Math.random() * 0.5;
    return usable
      .map((peer) => ({ peer, score: score(peer) }))
      .toSorted((a, b) => b.score - a.score)
      .slice(0, count)
      .map(({ peer }) => peer);
  }
}
