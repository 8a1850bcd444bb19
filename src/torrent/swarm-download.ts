import { EventEmitter } from 'node:events';
import type Wire from 'bittorrent-protocol';
import type Torrent from 'webtorrent/lib/torrent.js';
import { NarswarmError } from '../errors.ts';
import type { PeerRecord, PeerTable } from './peer-table.ts';
import { connectPeer } from './connect-peer.ts';
import { banLiar } from './bad-piece.ts';
import { BAD_PIECE, waitsForDisk } from './block-requests.ts';
import { stateOf } from './wire-state.ts';

/** A peer that has asked for and sent nothing for so long is dropped and its blocks go to others. */
export const STALL_MS = 5_000;

interface DownloadEvents {
  /** Payload came from a peer. */
  bytes: [bytes: number, address: string];
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
  #pending = 0;
  #bytes = 0;
  #lastByteAtMs = performance.now();
  #isDone = false;

  constructor(torrent: Torrent, peers: PeerTable) {
    super();
    this.#torrent = torrent;
    this.#peers = peers;
    torrent.on('wire', (wire: Wire, address: string) => this.#onWire(wire, address));
    torrent.on(BAD_PIECE, (_index: number, sources: Wire[]) => this.#onBadPiece(sources));
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

  /** Milliseconds since the last payload byte, or since the start; 0 while the disk is behind. */
  get idleMs(): number {
    if (waitsForDisk(this.#torrent)) this.#lastByteAtMs = performance.now();
    return performance.now() - this.#lastByteAtMs;
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
    await untilReady(this.#torrent);
    for (const peer of news) {
      if (this.#torrent.destroyed) return;
      connectPeer(this.#torrent, peer, () => this.#onPeerGone());
    }
  }

  /** Closes every connection; what is in the storage stays. */
  async stop(): Promise<void> {
    this.#isDone = true;
    if (this.#torrent.destroyed) return;
    await new Promise<void>((resolve) => this.#torrent.destroy({}, () => resolve()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #onWire(wire: Wire, address: string): void {
    wire.setTimeout(STALL_MS, true);
    const record = this.#peers.get(address);
    const state = stateOf(wire);
    state.knownRate = record?.rate ?? 0;
    state.onPieceBytes = (bytes) => {
      this.#bytes += bytes;
      this.#lastByteAtMs = performance.now();
      if (record !== undefined) {
        record.bytes += bytes;
        record.rate = Math.max(record.rate, wire.downloadSpeed());
      }
      this.emit('bytes', bytes, address);
    };
  }

  #onBadPiece(sources: Wire[]): void {
    const liar = banLiar(this.#peers, sources);
    if (liar !== undefined) this.emit('lie', liar);
  }

  #onPeerGone(): void {
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
