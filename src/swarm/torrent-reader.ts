import { once, type EventEmitter } from 'node:events';
import type { PeerRecord } from '../discovery/peer-table.ts';
import { NarswarmError } from '../errors.ts';
import { connectPeer } from './connect-peer.ts';
import type { OpenTorrent } from './open-torrent.ts';

/** Reads single files of a torrent that is known by its infohash only. Fetches them on request. */
export class TorrentReader implements AsyncDisposable {
  readonly #torrent: OpenTorrent;
  readonly #tried = new Set<string>();
  readonly #closes: boolean;
  #receivedBytes = 0;

  /** @param options.closes false if the torrent stays open after this reader, since others use it */
  constructor(torrent: OpenTorrent, options: { readonly closes: boolean }) {
    this.#torrent = torrent;
    this.#closes = options.closes;
    torrent.handle.on('download', (bytes: number) => {
      this.#receivedBytes += bytes;
    });
  }

  /** Bytes received from peers, including those of the protocol. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Connects to a peer. Tries each only once. */
  addPeer(peer: PeerRecord): void {
    if (this.#tried.has(peer.address) || peer.banned !== undefined || this.#torrent.isClosed) return;
    this.#tried.add(peer.address);
    this.#torrent.whenNamed(() => {
      if (!this.#torrent.isClosed) connectPeer(this.#torrent, peer, () => this.#tried.delete(peer.address));
    });
  }

  /**
   * Returns the bytes of one file of the torrent.
   *
   * @param path as in the torrent, below its name: `manifest`, `shards/ab.zst`
   * @throws INDEX_INVALID if the torrent has no such file or it is longer than `maxBytes`; PEERS_FAILED if the torrent
   *   ended, also by {@link close}; the signal's reason
   */
  async readFile(path: string, options: { maxBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    const { signal, maxBytes } = options;
    const { handle } = this.#torrent;
    signal.throwIfAborted();
    if (!handle.ready) await this.#until(handle, 'ready', signal);
    const file = handle.files.find((candidate) => candidate.path.split('/').slice(1).join('/') === path);
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
    const { storage } = this.#torrent;
    if (storage === undefined) throw new NarswarmError('PEERS_FAILED', 'the torrent of the hash map has no storage');
    const bytes = new Uint8Array(file.length);
    await storage.read([bytes], file.offset);
    return bytes;
  }

  async close(): Promise<void> {
    if (this.#closes) await this.#torrent.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Waits for an event, or until the torrent ends. */
  async #until(source: EventEmitter, event: string, signal: AbortSignal): Promise<void> {
    const { handle } = this.#torrent;
    const stop = new AbortController();
    const options = { signal: AbortSignal.any([signal, stop.signal]) };
    let cause: unknown;
    try {
      const ended = handle.destroyed || once(handle, 'close', options).then(() => true);
      if (!(await Promise.race([ended, once(source, event, options).then(() => false)]))) return;
    } catch (error) {
      signal.throwIfAborted();
      cause = error;
    } finally {
      stop.abort();
    }
    throw new NarswarmError('PEERS_FAILED', 'the torrent of the hash map was closed before it was read', { cause });
  }
}
