import { EventEmitter } from 'node:events';
import { noteSilence, type PeerRecord, type PeerTable } from '../discovery/peer-table.ts';
import { NarswarmError } from '../errors.ts';
import { connectPeer } from './connect-peer.ts';
import type { DiskBacklog } from './disk-backlog.ts';
import { DownloadPeers } from './download-peers.ts';
import type { OpenTorrent } from './open-torrent.ts';
import type { PieceStart } from './piece-ledger.ts';

/** Time after which a pending connection is no longer counted on. It may still be made. */
const CONNECT_SOON_MS = 250;

interface DownloadEvents {
  /** Payload arrived from a peer. */
  bytes: [bytes: number, address: string];
  /** A piece is right. */
  verified: [bytes: number];
  /** A peer sent a piece that failed its SHA-1. It is banned. */
  lie: [address: string];
  /** A peer turned out to accept requests and send nothing. */
  silent: [];
  /** No connection is open or pending any more. */
  alone: [];
  /** Every piece is in the storage. */
  done: [];
  /** The storage failed. */
  error: [error: unknown];
}

/**
 * The download of one NAR from peers. Ends with `done`, with `error`, or when the caller stops it. Never gives up by
 * itself, since other peers may still be found.
 */
export class SwarmDownload extends EventEmitter<DownloadEvents> implements AsyncDisposable {
  readonly #torrent: OpenTorrent;
  readonly #peers: PeerTable;
  readonly #backlog: DiskBacklog;
  readonly #watch: DownloadPeers;
  readonly #tried = new Set<string>();
  /** The start of each pending connection. */
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
      onSilent: () => this.emit('silent'),
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

  /** Payload bytes from peers. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Number of connected peers that have this NAR. */
  get connected(): number {
    return this.#torrent.connections.length;
  }

  /** Number of peers that can be counted on: connected ones that are not silent, and those that may connect soon. */
  get promising(): number {
    const nowMs = performance.now();
    const soon = [...this.#connecting.values()].filter((beganAtMs) => nowMs - beganAtMs < CONNECT_SOON_MS);
    return soon.length + this.#watch.reliable;
  }

  /** True if there are peers, none is pending, and all are known to accept requests and send nothing. */
  get areAllSilent(): boolean {
    return this.#connecting.size === 0 && this.#watch.areAllSilent;
  }

  /** True while a peer has a missing piece and has not given us a turn yet. */
  get isQueued(): boolean {
    return this.#watch.isQueued;
  }

  /**
   * Milliseconds since the last payload byte, or since the start. 0 while the disk or our own limit holds peers back.
   */
  get idleMs(): number {
    const nowMs = performance.now();
    if (this.#backlog.isFull) this.#lastByteAtMs = nowMs;
    const heldUntilMs = this.#torrent.connections.map((connection) => connection.heldUntilMs);
    return Math.max(0, nowMs - Math.max(this.#lastByteAtMs, this.#peers.line.backAtMs, ...heldUntilMs));
  }

  /** Records that peers that were reached, and have not answered the handshake yet, are silent. */
  noteUnanswered(): void {
    for (const address of this.#connecting.keys()) {
      const peer = this.#peers.get(address);
      const isLine = peer !== undefined && peer.bytes > 0 && this.#peers.line.isSilent(); // then the line is to blame
      if (peer?.isReached === true && !isLine) noteSilence(peer);
    }
  }

  /** Returns true if this peer was given to {@link addPeers} before. */
  hasTried(address: string): boolean {
    return this.#tried.has(address);
  }

  /** Connects to these peers. Tries each only once. */
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

  /** Records a piece that was written to the storage. WebTorrent writes only pieces that are right. */
  onGood(index: number, bytes: Uint8Array): void {
    this.#watch.onGood(index, bytes);
  }

  /**
   * Puts back the parts of pieces that an earlier download of this NAR left. Call it before the first peer is added.
   */
  async putBack(starts: readonly PieceStart[]): Promise<void> {
    await untilReady(this.#torrent);
    if (this.#torrent.isClosed) return;
    for (const start of starts) this.#watch.ledger.putBack(start);
  }

  /** Closes every connection. Keeps the bytes in the storage. @returns the parts of incomplete pieces */
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

/** Waits until WebTorrent accepts peers for a torrent. @throws PEERS_FAILED if the torrent ended first */
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
