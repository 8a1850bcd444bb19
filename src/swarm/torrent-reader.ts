import { once, type EventEmitter } from 'node:events';
import type Wire from 'bittorrent-protocol';
import type Torrent from 'webtorrent/lib/torrent.js';
import { NarswarmError } from '../errors.ts';
import { banLiar } from './bad-piece.ts';
import { BAD_PIECE } from './block-requests.ts';
import { connectPeer } from './connect-peer.ts';
import type { PeerRecord, PeerTable } from '../discovery/peer-table.ts';
import { STALL_MS } from './swarm-download.ts';

/** Single files of a torrent that is known by its infohash alone, fetched as they are asked for. */
export class TorrentReader implements AsyncDisposable {
  readonly #torrent: Torrent;
  readonly #tried = new Set<string>();
  readonly #closes: boolean;
  #payloadBytes = 0;

  /** @param options.closes false: the torrent is somebody else's, and goes on after this reader */
  constructor(torrent: Torrent, peers: PeerTable, options: { readonly closes: boolean } = { closes: true }) {
    this.#torrent = torrent;
    this.#closes = options.closes;
    torrent.setMaxListeners(0); // each file that is being read wants to hear of the end
    torrent.on('wire', (wire: Wire) => wire.setTimeout(STALL_MS, true));
    torrent.on(BAD_PIECE, (_index: number, sources: Wire[]) => banLiar(peers, sources));
    torrent.on('download', (bytes: number) => {
      this.#payloadBytes += bytes;
    });
  }

  /** Bytes received from peers, the protocol's own included. */
  get receivedBytes(): number {
    return this.#payloadBytes;
  }

  /** Connects to a peer, once. */
  addPeer(peer: PeerRecord): void {
    if (this.#tried.has(peer.address) || peer.banned !== undefined || this.#torrent.destroyed) return;
    this.#tried.add(peer.address);
    const connect = (): void => {
      if (!this.#torrent.destroyed) connectPeer(this.#torrent, peer, () => this.#tried.delete(peer.address));
    };
    if (this.#torrent.infoHash === undefined) this.#torrent.once('infoHash', connect);
    else connect();
  }

  /**
   * The bytes of one file of the torrent.
   *
   * @param path as in the torrent, below its name: `manifest`, `shards/ab.zst`
   * @throws INDEX_INVALID where the torrent has no such file or it is longer than `maxBytes`; PEERS_FAILED
   *   where the torrent ended, by {@link close} too; the signal's reason
   */
  async readFile(path: string, options: { maxBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    const { signal, maxBytes } = options;
    signal.throwIfAborted();
    if (!this.#torrent.ready) await this.#until(this.#torrent, 'ready', signal);
    const file = this.#torrent.files.find((candidate) => candidate.path.split('/').slice(1).join('/') === path);
    if (file === undefined || file.length > maxBytes) {
      const problem = file === undefined ? 'is missing' : `has ${file.length} bytes, more than ${maxBytes}`;
      throw new NarswarmError('INDEX_INVALID', `the hash map's torrent is malformed: ${path} ${problem}`, {
        facts: { path },
      });
    }
    if (!file.done) {
      file.select(1);
      await this.#until(file, 'done', signal);
    }
    return this.#readBytes(file.offset, file.length);
  }

  async close(): Promise<void> {
    if (!this.#closes || this.#torrent.destroyed) return;
    await new Promise<void>((resolve) => this.#torrent.destroy({}, () => resolve()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Waits for an event, or until the torrent ends. */
  async #until(source: EventEmitter, event: string, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const options = { signal: AbortSignal.any([signal, stop.signal]) };
    let cause: unknown;
    try {
      const ended = this.#torrent.destroyed || once(this.#torrent, 'close', options).then(() => true);
      if (!(await Promise.race([ended, once(source, event, options).then(() => false)]))) return;
    } catch (error) {
      signal.throwIfAborted();
      cause = error;
    } finally {
      stop.abort();
    }
    throw new NarswarmError('PEERS_FAILED', 'the torrent of the hash map was closed before it was read', { cause });
  }

  async #readBytes(offset: number, length: number): Promise<Uint8Array> {
    const { pieceLength, store } = this.#torrent;
    const bytes = new Uint8Array(length);
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / pieceLength);
      const within = at - index * pieceLength;
      const wanted = Math.min(pieceLength - within, offset + length - at);
      const part = await new Promise<Uint8Array>((resolve, reject) => {
        store.get(index, { offset: within, length: wanted }, (error, found) =>
          error === null ? resolve(found) : reject(error),
        );
      });
      bytes.set(part, at - offset);
      at += part.length;
    }
    return bytes;
  }
}
