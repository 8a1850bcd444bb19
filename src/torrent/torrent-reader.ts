import { once } from 'node:events';
import type Torrent from 'webtorrent/lib/torrent.js';
import { NarswarmError } from '../errors.ts';
import { connectPeer } from './connect-peer.ts';
import type { PeerRecord } from './peer-table.ts';

/** Single files of a torrent that is known by its infohash alone, fetched as they are asked for. */
export class TorrentReader implements AsyncDisposable {
  readonly #torrent: Torrent;
  readonly #tried = new Set<string>();
  #payloadBytes = 0;

  constructor(torrent: Torrent) {
    this.#torrent = torrent;
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
   * @throws INDEX_INVALID where the torrent has no such file or it is longer than `maxBytes`; the signal's reason
   */
  async readFile(path: string, options: { maxBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    const { signal, maxBytes } = options;
    signal.throwIfAborted();
    if (!this.#torrent.ready) await once(this.#torrent, 'ready', { signal });
    const file = this.#torrent.files.find((candidate) => candidate.path.split('/').slice(1).join('/') === path);
    if (file === undefined || file.length > maxBytes) {
      const problem = file === undefined ? 'is missing' : `has ${file.length} bytes, more than ${maxBytes}`;
      throw new NarswarmError('INDEX_INVALID', `the hash map's torrent is malformed: ${path} ${problem}`, {
        facts: { path },
      });
    }
    if (!file.done) {
      file.select(1);
      await new Promise<void>((resolve, reject) => {
        const abort = (): void => reject(signal.reason as Error);
        signal.addEventListener('abort', abort, { once: true });
        file.once('done', () => {
          signal.removeEventListener('abort', abort);
          resolve();
        });
      });
    }
    return this.#readBytes(file.offset, file.length);
  }

  async close(): Promise<void> {
    if (this.#torrent.destroyed) return;
    await new Promise<void>((resolve) => this.#torrent.destroy({}, () => resolve()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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
