import type { BlockList } from 'node:net';
import { MAX_BANNED_HOSTS, MAX_PEERS, MAX_PEERS_PER_HOST } from '../wire/bounds.ts';
import { FairTable } from '../wire/fair-table.ts';
import { Line } from './line.ts';
import { formatEndpoint, type Endpoint } from './endpoint.ts';
import { SourceRate } from './source-rate.ts';

/** How a peer was found. */
export type PeerOrigin = 'given' | 'hint' | 'dht' | 'lan';

/** A peer and its merits so far in this process. */
export interface PeerRecord {
  readonly endpoint: Endpoint;
  readonly address: string;
  readonly origin: PeerOrigin;
  /** Addresses that its name must not lead to, if a stranger named it. */
  blockList?: BlockList | undefined;
  /** Connections in which it had the torrent. */
  hits: number;
  /** Connections that it refused, or that were of no use. */
  misses: number;
  /** Time of the last miss, in milliseconds of `performance.now()`. */
  missedAtMs: number;
  /** Verified bytes that it sent: its merit. */
  bytes: number;
  /** Its rate over all connections, while something is requested. */
  readonly rate: SourceRate;
  /** Requested payload bytes that have not arrived yet, over all connections. */
  inFlightBytes: number;
  /** Number of times in a row that it accepted requests and sent nothing. */
  silences: number;
  /** Time when it was last found silent, in milliseconds of `performance.now()`. */
  silentAtMs: number;
  /** True once a connection to it was made. */
  isReached: boolean;
  /** Start of a pending connection without any answer yet. Undefined if there is none. */
  dialedAtMs: number | undefined;
  /** Failed connections in a row. */
  failures: number;
  /** Time before which it is not connected to, in milliseconds of `performance.now()`. */
  notBeforeMs: number;
  /** The lie because of which it is never asked again. Undefined if there is none. */
  banned: string | undefined;
}

/** Misses without a hit after which a peer is left alone for a while: it may be fetching itself. */
const USELESS_AFTER = 16;
const USELESS_FOR_MS = 5_000;
/** Pause after a failed connection to a peer; doubled after each further one. */
const UNREACHABLE_MS = 5_000;
const MAX_UNREACHABLE_MS = 300_000;

/** A silent peer is asked after all others for twice this time; doubled each further time. */
const SILENCE_MS = 5_000;
/** Peers on the local network answer sooner. */
const CONNECT_SOON_MS = 150;

/**
 * The peers that this process knows, with their reliability. Its size is bounded. Peers that a person named and peers
 * that sent something stay; the rest is shared fairly among networks.
 */
export class PeerTable {
  readonly #peers = new FairTable<PeerRecord>({
    capacity: MAX_PEERS,
    perHost: MAX_PEERS_PER_HOST,
    hostOf: ({ endpoint }) => endpoint.host,
    isKept: ({ origin, bytes, banned }) => origin === 'given' || (bytes > 0 && banned === undefined),
  });
  /** The latest addresses and hosts that have lied. */
  readonly #banned = new Set<string>();
  /** Traffic of all peers together. */
  readonly line = new Line();

  /** Returns the record of a peer that a person named. There is always room for it. */
  add(endpoint: Endpoint): PeerRecord {
    const address = formatEndpoint(endpoint);
    const known = this.#peers.get(address);
    if (known !== undefined) return known;
    const record = newRecord(endpoint, address, 'given', undefined);
    this.#peers.add(address, record);
    return record;
  }

  /**
   * Adds a new peer and returns its record. Undefined if it was known, or if there is no room.
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
   * Bans a peer: this process never connects to it again. A peer that is not in the table connected to us, and its port
   * means nothing: then its host gets no further connection.
   */
  ban(address: string, reason: string): void {
    const record = this.#peers.get(address);
    if (record !== undefined) record.banned ??= reason;
    const [oldest] = this.#banned;
    if (oldest !== undefined && this.#banned.size >= MAX_BANNED_HOSTS) this.#banned.delete(oldest);
    this.#banned.add(record === undefined ? address.slice(0, address.lastIndexOf(':')) : address);
  }

  /** Returns true if the peer at an address has lied. */
  isBanned(address: string): boolean {
    return this.#peers.get(address)?.banned !== undefined || this.#banned.has(address);
  }

  /** Returns true if a host has connected to us and lied. Takes its address as node:net has it. */
  isBannedHost(host: string): boolean {
    return this.#banned.has(host);
  }

  all(): IterableIterator<PeerRecord> {
    return this.#peers.values();
  }

  /**
   * Returns up to `count` peers to ask next, in this order: those that have sent good bytes, reachable ones, strangers,
   * and those that accept requests and send nothing. Leaves out peers that recently had nothing or could not be
   * reached.
   *
   * @param count none if it is negative, as when there are more connections than places
   * @param options.mayBeSilent false to leave out peers that sent nothing when asked
   */
  choose(
    count: number,
    candidates: Iterable<PeerRecord>,
    { mayBeSilent = true }: { readonly mayBeSilent?: boolean } = {},
  ): PeerRecord[] {
    const now = performance.now();
    const usable = [...candidates].filter((peer) => isUsable(peer, now) && (mayBeSilent || !isSilent(peer, now)));
    const score = (peer: PeerRecord): number => (peer.hits + 1) / (peer.hits + peer.misses + 2) + Math.random() * 0.5;
    return usable
      .map((peer) => ({ peer, rank: rankOf(peer, now), score: score(peer) }))
      .toSorted((a, b) => a.rank - b.rank || b.score - a.score)
      .slice(0, Math.max(0, count)) // slice would take a negative count for "all but"
      .map(({ peer }) => peer);
  }
}

/** Makes the record of a peer that connected to us. It is in no table, since its port is not an address. */
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

/** Returns true if a peer may be asked: it has not lied, and was not left alone because it had nothing or was not reached. */
export function isUsable(peer: PeerRecord, nowMs = performance.now()): boolean {
  const { hits, misses, missedAtMs, notBeforeMs, banned } = peer;
  if (banned !== undefined || nowMs < notBeforeMs) return false;
  return hits > 0 || misses < USELESS_AFTER || nowMs - missedAtMs >= USELESS_FOR_MS;
}

/** Returns true if a connection has been pending for so long that the peer must be off or far away. */
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
  if (nowMs < peer.notBeforeMs) return; // begun beside one that is already counted
  const isProven = peer.bytes > 0; // then the line is to blame, and it comes back
  const pauseMs = isProven ? UNREACHABLE_MS / 2 : Math.min(UNREACHABLE_MS * 2 ** peer.failures, MAX_UNREACHABLE_MS);
  peer.failures++;
  peer.notBeforeMs = nowMs + pauseMs;
}

/** Records that a peer was asked and sends nothing. @returns false if it is known to be silent */
export function noteSilence(peer: PeerRecord, nowMs = performance.now()): boolean {
  if (isSilent(peer, nowMs)) return false; // already counted
  peer.silences++;
  peer.silentAtMs = nowMs;
  return true;
}

/** Records that a peer sends something. It is no longer silent, but the next time it counts as silent for longer. */
export function noteAnswer(peer: PeerRecord): void {
  peer.silentAtMs = -Infinity;
}

/** Returns true if a peer recently accepted requests and sent nothing. It counts as silent for longer each time. */
export function isSilent({ silences, silentAtMs }: PeerRecord, nowMs = performance.now()): boolean {
  return silences > 0 && nowMs - silentAtMs < SILENCE_MS * 2 ** Math.min(silences, 6);
}

/** Records verified bytes of a peer. */
export function noteGoodBytes(peer: PeerRecord, bytes: number): void {
  peer.bytes += bytes;
  peer.silences = 0;
}
