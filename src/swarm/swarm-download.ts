import { EventEmitter } from 'node:events';
import type Wire from 'bittorrent-protocol';
import type Torrent from 'webtorrent/lib/torrent.js';
import { NarswarmError } from '../errors.ts';
import { noteGoodBytes, noteSilence, strangerAt, type PeerRecord, type PeerTable } from '../discovery/peer-table.ts';
import { connectPeer } from './connect-peer.ts';
import { banLiar } from './bad-piece.ts';
import {
  BAD_PIECE,
  beginnings,
  GOOD_PIECE,
  paceOf,
  putBeginning,
  waitsForDisk,
  type PieceStart,
} from './block-requests.ts';
import { SILENT_MS } from './request-policy.ts';
import { stateOf } from './wire-state.ts';

/** A peer that was asked and has sent nothing for so long is dropped. */
export const STALL_MS = 5_000;
/** The same for one that has sent before, while no peer at all sends: then it is the line, which may come back. */
const LINE_OUT_MS = 15_000;
const LOOK_EVERY_MS = 250;
/** A connection that is not made after so long is not counted on; it may come all the same. */
const CONNECT_SOON_MS = 250;

interface DownloadEvents {
  /** Payload came from a peer. */
  bytes: [bytes: number, address: string];
  /** A piece was found right. */
  verified: [bytes: number];
  /** A peer sent a piece that failed its SHA-1, alone; it is banned. */
  lie: [address: string];
  /** No connection is open or being opened any more. */
  alone: [];
  /** Every piece is in the storage. */
  done: [];
  /** The storage failed. */
  error: [error: unknown];
}

/**
 * One NAR being downloaded from peers. Ends with `done`, `error`, or when the caller stops it: it never gives up by
 * itself, since others may still find peers for it.
 */
export class SwarmDownload extends EventEmitter<DownloadEvents> implements AsyncDisposable {
  readonly #torrent: Torrent;
  readonly #peers: PeerTable;
  readonly #tried = new Set<string>();
  /** When each connection that is not made yet was begun. */
  readonly #connecting = new Map<string, number>();
  #pending = 0;
  #bytes = 0;
  #lastByteAtMs = performance.now();
  #isDone = false;

  constructor(torrent: Torrent, peers: PeerTable) {
    super();
    this.#torrent = torrent;
    this.#peers = peers;
    torrent.on('wire', (wire: Wire, address: string) => this.#onWire(wire, address));
    torrent.on(GOOD_PIECE, (bytes: number, senders: ReadonlyMap<Wire, number>) => this.#onGoodPiece(bytes, senders));
    torrent.on(BAD_PIECE, (_index: number, sources: Wire[]) => this.#onBadPiece(sources));
    const timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
    torrent.once('close', () => clearInterval(timer));
    torrent.once('done', () => {
      this.#isDone = true;
      this.emit('done');
    });
    torrent.on('error', (error: unknown) => {
      if (!this.#isDone) this.emit('error', error);
    });
  }

  /** Payload bytes that came from peers. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Peers that have this NAR and are connected now. */
  get connected(): number {
    return this.#torrent.destroyed ? 0 : this.#torrent.wires.length;
  }

  /** Peers that can be counted on: those that are connected and not silent, and those that may be in a moment. */
  get promising(): number {
    const nowMs = performance.now();
    const soon = [...this.#connecting.values()].filter((beganAtMs) => nowMs - beganAtMs < CONNECT_SOON_MS);
    return soon.length + this.#wires().filter((wire) => paceOf(stateOf(wire), nowMs).silentMs <= SILENT_MS).length;
  }

  /** Milliseconds since the last payload byte, or since the start; 0 while the disk or our own limit is behind. */
  get idleMs(): number {
    const nowMs = performance.now();
    if (waitsForDisk(this.#torrent)) this.#lastByteAtMs = nowMs;
    const heldUntilMs = this.#wires().map((wire) => stateOf(wire).heldUntilMs);
    return Math.max(0, nowMs - Math.max(this.#lastByteAtMs, this.#peers.line.backAtMs, ...heldUntilMs));
  }

  /**
   * Looks how the peers do: has those with nothing else to do take over what silent and slow ones were asked for, and
   * drops those that have sent nothing for too long.
   */
  #look(): void {
    const nowMs = performance.now();
    const isLineSilent = this.#peers.line.isSilent(nowMs);
    // Before anybody takes over what they were asked for: then they are not silent any more, for nothing is asked of them.
    const silences = this.#wires().map((wire) => ({ wire, silentMs: paceOf(stateOf(wire), nowMs).silentMs }));
    for (const { wire, silentMs } of silences) {
      const state = stateOf(wire);
      const isLine = isLineSilent && (state.peer?.bytes ?? 0) > 0; // and not the peer, which has sent before
      if (silentMs > SILENT_MS && state.peer !== undefined && !isLine) noteSilence(state.peer);
      const patienceMs = isLine ? LINE_OUT_MS : STALL_MS;
      if (silentMs > patienceMs) wire.destroy();
    }
    for (const wire of this.#wires()) this.#torrent._updateWire(wire);
  }

  /** True where this peer was given to {@link addPeers} before. */
  hasTried(address: string): boolean {
    return this.#tried.has(address);
  }

  /** Connects to these peers, each once. */
  async addPeers(peers: readonly PeerRecord[]): Promise<void> {
    const news = peers.filter((peer) => !this.#tried.has(peer.address) && peer.banned === undefined);
    for (const peer of news) this.#tried.add(peer.address);
    this.#pending += news.length;
    for (const peer of news) this.#connecting.set(peer.address, performance.now());
    await untilReady(this.#torrent);
    for (const peer of news) {
      if (this.#torrent.destroyed) return;
      connectPeer(this.#torrent, peer, () => this.#onPeerGone(peer.address));
    }
  }

  /** Puts back what an earlier download of this NAR has left of pieces; before the first peer. */
  async putBack(starts: readonly PieceStart[]): Promise<void> {
    await untilReady(this.#torrent);
    if (this.#torrent.destroyed) return;
    for (const start of starts) putBeginning(this.#torrent, start);
  }

  /** Closes every connection; what is in the storage stays. @returns what has come of pieces that are not complete */
  async stop(): Promise<PieceStart[]> {
    this.#isDone = true;
    if (this.#torrent.destroyed) return [];
    const starts = beginnings(this.#torrent);
    await new Promise<void>((resolve) => this.#torrent.destroy({}, () => resolve()));
    return starts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #wires(): readonly Wire[] {
    return this.#torrent.destroyed ? [] : this.#torrent.wires;
  }

  #onWire(wire: Wire, address: string): void {
    wire.setTimeout(0); // #look() knows when a peer is not to blame
    this.#connecting.delete(address);
    const state = stateOf(wire);
    state.peer = this.#peers.get(address) ?? strangerAt(address);
    state.line = this.#peers.line;
    state.onPieceBytes = (bytes) => {
      this.#bytes += bytes;
      this.#lastByteAtMs = performance.now();
      this.#peers.line.onBytes(this.#lastByteAtMs);
      this.emit('bytes', bytes, address);
    };
  }

  #onGoodPiece(pieceBytes: number, senders: ReadonlyMap<Wire, number>): void {
    for (const [wire, bytes] of senders) {
      const { peer } = stateOf(wire);
      if (peer !== undefined) noteGoodBytes(peer, bytes);
    }
    this.emit('verified', pieceBytes);
  }

  #onBadPiece(sources: Wire[]): void {
    const liar = banLiar(this.#peers, sources);
    if (liar !== undefined) this.emit('lie', liar);
  }

  #onPeerGone(address: string): void {
    this.#connecting.delete(address);
    this.#pending--;
    if (this.#pending === 0 && !this.#isDone) this.emit('alone');
  }
}

/** Waits until WebTorrent takes peers for a torrent. @throws PEERS_FAILED where the torrent ended first */
export function untilReady(torrent: Torrent): Promise<void> {
  if (torrent.ready || torrent.destroyed) return Promise.resolve();
  return new Promise((resolve, reject) => {
    torrent.once('ready', () => resolve());
    torrent.once('error', (error: unknown) =>
      reject(new NarswarmError('PEERS_FAILED', `a torrent could not be opened: ${String(error)}`, { cause: error })),
    );
    torrent.once('close', () => resolve());
  });
}
