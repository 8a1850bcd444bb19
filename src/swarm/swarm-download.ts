import { EventEmitter } from 'node:events';
import type { PeerRecord, PeerTable } from '../discovery/peer-table.ts';
import { NarswarmError } from '../errors.ts';
import { connectPeer } from './connect-peer.ts';
import type { DiskBacklog } from './disk-backlog.ts';
import { DownloadPeers } from './download-peers.ts';
import type { OpenTorrent } from './open-torrent.ts';
import type { PieceStart } from './piece-ledger.ts';

/** A connection that is not made after so long is not counted on; it may come all the same. */
const CONNECT_SOON_MS = 250;

interface DownloadEvents {
  /** Payload came from a peer. */
  bytes: [bytes: number, address: string];
  /** A piece was found right. */
  verified: [bytes: number];
  /** A peer sent a piece that failed its SHA-1; it is banned. */
  lie: [address: string];
  /** No connection is open or being opened any longer. */
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
  readonly #torrent: OpenTorrent;
  readonly #peers: PeerTable;
  readonly #backlog: DiskBacklog;
  readonly #watch: DownloadPeers;
  readonly #tried = new Set<string>();
  /** When each connection that is not made yet was begun. */
  readonly #connecting = new Map<string, number>();
  #pending = 0;
  #bytes = 0;
  #lastByteAtMs = performance.now();
  #isDone = false;

  constructor(torrent: OpenTorrent, peers: PeerTable, backlog: DiskBacklog) {
    super();
    this.#torrent = torrent;
    this.#peers = peers;
    this.#backlog = backlog;
    this.#watch = new DownloadPeers(torrent, {
      peers,
      backlog,
      onBytes: (bytes, address) => {
        this.#bytes += bytes;
        this.#lastByteAtMs = performance.now();
        this.emit('bytes', bytes, address);
      },
      onVerified: (bytes) => this.emit('verified', bytes),
      onLie: (address) => this.emit('lie', address),
    });
    torrent.on('connection', ({ address }) => this.#connecting.delete(address));
    torrent.handle.once('done', () => {
      this.#isDone = true;
      this.emit('done');
    });
    torrent.handle.on('error', (error: unknown) => {
      if (!this.#isDone) this.emit('error', error);
    });
  }

  /** Payload bytes that came from peers. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Peers that have this NAR and are connected now. */
  get connected(): number {
    return this.#torrent.connections.length;
  }

  /** Peers that can be counted on: those that are connected and not silent, and those that may be in a moment. */
  get promising(): number {
    const nowMs = performance.now();
    const soon = [...this.#connecting.values()].filter((beganAtMs) => nowMs - beganAtMs < CONNECT_SOON_MS);
    return soon.length + this.#watch.reliable;
  }

  /** Milliseconds since the last payload byte, or since the start; 0 while the disk or our own limit is behind. */
  get idleMs(): number {
    const nowMs = performance.now();
    if (this.#backlog.isFull) this.#lastByteAtMs = nowMs;
    const heldUntilMs = this.#torrent.connections.map((connection) => connection.heldUntilMs);
    return Math.max(0, nowMs - Math.max(this.#lastByteAtMs, this.#peers.line.backAtMs, ...heldUntilMs));
  }

  /** True if this peer was given to {@link addPeers} before. */
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
      if (this.#torrent.isClosed) return;
      connectPeer(this.#torrent, peer, () => this.#onPeerGone(peer.address));
    }
  }

  /** Records a piece that is written to the storage: WebTorrent writes those alone that are right. */
  onGood(index: number, bytes: Uint8Array): void {
    this.#watch.onGood(index, bytes);
  }

  /** Puts back what an earlier download of this NAR has left of pieces; before the first peer. */
  async putBack(starts: readonly PieceStart[]): Promise<void> {
    await untilReady(this.#torrent);
    if (this.#torrent.isClosed) return;
    for (const start of starts) this.#watch.ledger.putBack(start);
  }

  /** Closes every connection; what is in the storage stays. @returns what has come of pieces that are not complete */
  async stop(): Promise<PieceStart[]> {
    this.#isDone = true;
    if (this.#torrent.isClosed) return [];
    const starts = this.#torrent.handle.ready ? this.#watch.ledger.beginnings() : [];
    await this.#torrent.close();
    return starts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #onPeerGone(address: string): void {
    this.#connecting.delete(address);
    this.#pending--;
    if (this.#pending === 0 && !this.#isDone) this.emit('alone');
  }
}

/** Waits until WebTorrent takes peers for a torrent. @throws PEERS_FAILED if the torrent ended first */
function untilReady({ handle }: OpenTorrent): Promise<void> {
  if (handle.ready || handle.destroyed) return Promise.resolve();
  return new Promise((resolve, reject) => {
    handle.once('ready', () => resolve());
    handle.once('error', (error: unknown) =>
      reject(new NarswarmError('PEERS_FAILED', `a torrent could not be opened: ${String(error)}`, { cause: error })),
    );
    handle.once('close', () => resolve());
  });
}
