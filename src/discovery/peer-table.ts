import type { BlockList } from 'node:net';
import { MAX_BANNED_HOSTS, MAX_PEERS, MAX_PEERS_PER_HOST } from '../wire/bounds.ts';
import { FairTable } from '../wire/fair-table.ts';
import { Line } from './line.ts';
import { formatEndpoint, type Endpoint } from './endpoint.ts';
import { SourceRate } from './source-rate.ts';

/** How a peer became known. */
export type PeerOrigin = 'given' | 'hint' | 'dht' | 'lan';

/** What a peer did for us so far in this process. */
export interface PeerRecord {
  readonly endpoint: Endpoint;
  readonly address: string;
  readonly origin: PeerOrigin;
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
  /** Its rate over all connections while it is asked. */
  readonly rate: SourceRate;
  /** Payload bytes that were asked of it and are not here yet, over all connections. */
  inFlightBytes: number;
  /** Times in a row that it took requests and sent nothing. */
  silences: number;
  /** When it was last found silent; milliseconds of `performance.now()`. */
  silentAtMs: number;
  /** True once a connection to it was made. */
  isReached: boolean;
  /** Since when a connection to it is being made, and nothing has come back; undefined if none is. */
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
/** Peers on the local network answer sooner. */
const CONNECT_SOON_MS = 150;

/**
 * The peers that this process knows, and how far each can be relied on. Its size is bounded; those that a person named
 * and those that sent something stay, and the rest is shared fairly among networks.
 */
export class PeerTable {
  readonly #peers = new FairTable<PeerRecord>({
    capacity: MAX_PEERS,
    perHost: MAX_PEERS_PER_HOST,
    hostOf: ({ endpoint }) => endpoint.host,
    isKept: ({ origin, bytes, banned }) => origin === 'given' || (bytes > 0 && banned === undefined),
  });
  /** Addresses and hosts that have lied, the last of them. */
  readonly #banned = new Set<string>();
  /** Traffic of all peers together. */
  readonly line = new Line();

  /** The record of a peer that a person has named: there is always room for it. */
  add(endpoint: Endpoint): PeerRecord {
    const address = formatEndpoint(endpoint);
    const known = this.#peers.get(address);
    if (known !== undefined) return known;
    const record = newRecord(endpoint, address, 'given', undefined);
    this.#peers.add(address, record);
    return record;
  }

  /**
   * The record of a peer that was not known; undefined if it was, or there is no room for it.
   *
   * @param blockList addresses that its name must not lead to
   */
  addFound(endpoint: Endpoint, origin: PeerOrigin, blockList: BlockList): PeerRecord | undefined {
    const address = formatEndpoint(endpoint);
    if (this.#peers.get(address) !== undefined) return undefined;
    if (origin === 'given') return this.add(endpoint);
    if (this.#banned.has(address)) return undefined;
    const record = newRecord(endpoint, address, origin, blockList);
    return this.#peers.add(address, record) === false ? undefined : record;
  }

  get(address: string): PeerRecord | undefined {
    return this.#peers.get(address);
  }

  /**
   * Never connects to this peer again in this process. One that is not in the table connected to us, from a port that
   * means nothing: its host gets no further connection.
   */
  ban(address: string, reason: string): void {
    const record = this.#peers.get(address);
    if (record !== undefined) record.banned ??= reason;
    const [oldest] = this.#banned;
    if (oldest !== undefined && this.#banned.size >= MAX_BANNED_HOSTS) this.#banned.delete(oldest);
    this.#banned.add(record === undefined ? address.slice(0, address.lastIndexOf(':')) : address);
  }

  /** True for the address, as node:net gives it, of a host that connected to us and lied. */
  isBannedHost(host: string): boolean {
    return this.#banned.has(host);
  }

  all(): IterableIterator<PeerRecord> {
    return this.#peers.values();
  }

  /**
   * Up to `count` peers to ask next: those that have sent good bytes first, then those that can be reached, strangers, and
   * last those that take requests and send nothing. Peers that had nothing, or cannot be reached, have a pause.
   *
   * @param count below 0, if more are connected to than there are places: none
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
      .slice(0, Math.max(0, count)) // slice would take a count below 0 for "all but"
      .map(({ peer }) => peer);
  }
}

/** A record of a peer that connected to us, which is in no table: its port is nobody's address. */
export function strangerAt(address: string): PeerRecord {
  return newRecord({ host: address, port: 0 }, address, 'lan', undefined);
}

function newRecord(
  endpoint: Endpoint,
  address: string,
  origin: PeerOrigin,
  blockList: BlockList | undefined,
): PeerRecord {
  return {
    endpoint,
    address,
    origin,
    blockList,
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

/** True if a connection is being made for so long that the peer is off, or far away. */
export function isSlowToAnswer({ dialedAtMs }: PeerRecord, nowMs = performance.now()): boolean {
  return dialedAtMs !== undefined && nowMs - dialedAtMs > CONNECT_SOON_MS;
}

/** Records that a connection to a peer was made. */
export function noteReached(peer: PeerRecord): void {
  peer.isReached = true;
  peer.dialedAtMs = undefined;
  peer.failures = 0;
}

/** Records that a peer could not be connected to. */
export function noteUnreachable(peer: PeerRecord, nowMs = performance.now()): void {
  peer.dialedAtMs = undefined;
  const pauseMs = Math.min(UNREACHABLE_MS * 2 ** peer.failures, MAX_UNREACHABLE_MS);
  peer.failures++;
  peer.notBeforeMs = nowMs + pauseMs;
}

/** Records that a peer was asked and sends nothing. */
export function noteSilence(peer: PeerRecord, nowMs = performance.now()): void {
  if (isSilent(peer, nowMs)) return; // it is known
  peer.silences++;
  peer.silentAtMs = nowMs;
}

/** True if a peer took requests and sent nothing, not long ago: longer each time. */
export function isSilent({ silences, silentAtMs }: PeerRecord, nowMs = performance.now()): boolean {
  return silences > 0 && nowMs - silentAtMs < SILENCE_MS * 2 ** Math.min(silences, 6);
}

/** Records bytes of a peer that were found right. */
export function noteGoodBytes(peer: PeerRecord, bytes: number): void {
  peer.bytes += bytes;
  peer.silences = 0;
}
