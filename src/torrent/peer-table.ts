import type { BlockList } from 'node:net';
import { formatEndpoint, type Endpoint } from './endpoint.ts';
import { SourceRate } from './source-rate.ts';

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
  /** Bytes that it sent and that were found right: its merit. */
  bytes: number;
  /** What it sends over all connections while it is asked. */
  readonly rate: SourceRate;
  /** Payload bytes that were asked of it and are not here yet, over all connections. */
  inFlightBytes: number;
  /** Times in a row that it took requests and sent nothing. */
  silences: number;
  /** When it was last found silent; milliseconds of `performance.now()`. */
  silentAtMs: number;
  /** True once a connection to it was made. */
  isReached: boolean;
  /** Since when a connection to it is being made, and nothing has come back; undefined where none is. */
  dialedAtMs: number | undefined;
  /** Connections in a row that could not be made. */
  failures: number;
  /** Not to be connected to before; milliseconds of `performance.now()`. */
  notBeforeMs: number;
  /** Why it is not asked again, once it lied. */
  banned: string | undefined;
}

/** Misses without one hit after which a peer is left in peace for a while: it may be fetching itself. */
const USELESS_AFTER = 16;
const USELESS_FOR_MS = 5_000;
/** A peer that could not be connected to is left in peace for so long, and doubly so each further time. */
const UNREACHABLE_MS = 5_000;
const MAX_UNREACHABLE_MS = 300_000;

/** A peer that sends nothing is asked after all others for twice so long, and doubly so each further time. */
const SILENCE_MS = 5_000;
/** Whoever is on the local network answers sooner. */
const CONNECT_SOON_MS = 150;

/** The peers that this process knows, and how far each can be relied on. */
export class PeerTable {
  readonly #byAddress = new Map<string, PeerRecord>();
  readonly #bannedHosts = new Set<string>();
  /** When any peer last sent payload; milliseconds of `performance.now()`. */
  lastByteAtMs = -Infinity;

  add(endpoint: Endpoint): PeerRecord {
    const address = formatEndpoint(endpoint);
    let record = this.#byAddress.get(address);
    if (record === undefined) {
      record = newRecord(endpoint, address);
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

  /**
   * Up to `count` peers to ask next: those that have sent good bytes first, then those that can be reached, strangers, and last those that take
   * requests and send nothing. Peers that had nothing, or cannot be reached, have a pause.
   *
   * @param options.mayBeSilent false: without those that have sent nothing when they were asked
   */
  choose(
    count: number,
    candidates: Iterable<PeerRecord>,
    { mayBeSilent = true }: { readonly mayBeSilent?: boolean } = {},
  ): PeerRecord[] {
    const now = performance.now();
    const isUseless = ({ hits, misses, missedAtMs, notBeforeMs }: PeerRecord): boolean =>
      now < notBeforeMs || (hits === 0 && misses >= USELESS_AFTER && now - missedAtMs < USELESS_FOR_MS);
    const usable = [...candidates].filter(
      (peer) => peer.banned === undefined && !isUseless(peer) && (mayBeSilent || !isSilent(peer, now)),
    );
    const score = (peer: PeerRecord): number => (peer.hits + 1) / (peer.hits + peer.misses + 2) + Math.random() * 0.5;
    return usable
      .map((peer) => ({ peer, rank: rankOf(peer, now), score: score(peer) }))
      .toSorted((a, b) => a.rank - b.rank || b.score - a.score)
      .slice(0, count)
      .map(({ peer }) => peer);
  }
}

/** A record of a peer that connected to us, which is in no table: its port is nobody's address. */
export function strangerAt(address: string): PeerRecord {
  return newRecord({ host: address, port: 0 }, address);
}

function newRecord(endpoint: Endpoint, address: string): PeerRecord {
  return {
    endpoint,
    address,
    hits: 0,
    misses: 0,
    missedAtMs: 0,
    bytes: 0,
    rate: new SourceRate(),
    inFlightBytes: 0,
    silences: 0,
    silentAtMs: 0,
    isReached: false,
    dialedAtMs: undefined,
    failures: 0,
    notBeforeMs: 0,
    banned: undefined,
  };
}

function rankOf(peer: PeerRecord, nowMs: number): number {
  if (isSilent(peer, nowMs)) return 4;
  if (peer.bytes > 0) return 0;
  if (peer.failures > 0 || isSlowToAnswer(peer, nowMs)) return 3;
  return peer.isReached ? 1 : 2;
}

/** True where a connection is being made for so long that the peer is off, or far away. */
export function isSlowToAnswer({ dialedAtMs }: PeerRecord, nowMs = performance.now()): boolean {
  return dialedAtMs !== undefined && nowMs - dialedAtMs > CONNECT_SOON_MS;
}

/** Takes down that a connection to a peer was made. */
export function noteReached(peer: PeerRecord): void {
  peer.isReached = true;
  peer.dialedAtMs = undefined;
  peer.failures = 0;
}

/** Takes down that a peer could not be connected to. */
export function noteUnreachable(peer: PeerRecord, nowMs = performance.now()): void {
  peer.dialedAtMs = undefined;
  const pauseMs = Math.min(UNREACHABLE_MS * 2 ** peer.failures, MAX_UNREACHABLE_MS);
  peer.failures++;
  peer.notBeforeMs = nowMs + pauseMs;
}

/** Takes down that a peer was asked and sends nothing. */
export function noteSilence(peer: PeerRecord, nowMs = performance.now()): void {
  if (isSilent(peer, nowMs)) return; // it is known
  peer.silences++;
  peer.silentAtMs = nowMs;
}

/** True where a peer took requests and sent nothing, not long ago: longer each time. */
export function isSilent({ silences, silentAtMs }: PeerRecord, nowMs = performance.now()): boolean {
  return silences > 0 && nowMs - silentAtMs < SILENCE_MS * 2 ** Math.min(silences, 6);
}

/** Takes down bytes of a peer that were found right. */
export function noteGoodBytes(peer: PeerRecord, bytes: number): void {
  peer.bytes += bytes;
  peer.silences = 0;
}
