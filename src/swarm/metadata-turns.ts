import { MAX_METADATA_SOURCES, METADATA_PATIENCE_MS } from '../wire/bounds.ts';
import type { PeerConnection } from '../wire/peer-connection.ts';
import type { OpenTorrent } from './open-torrent.ts';

/**
 * Asks the peers of a torrent for its metadata (BEP 9) if only the infohash is known. Asks few at a time, since each
 * takes as much memory as it claims to need. Gives WebTorrent the metadata with the right SHA-1.
 */
export class MetadataTurns {
  readonly #torrent: OpenTorrent;
  readonly #asked = new Map<PeerConnection, NodeJS.Timeout>();
  readonly #waiting = new Set<PeerConnection>();
  #metadata: Buffer | undefined;

  constructor(torrent: OpenTorrent) {
    this.#torrent = torrent;
    torrent.on('connection', (connection) => this.#add(connection));
    for (const event of ['metadata', 'close']) torrent.handle.once(event, () => this.#end());
  }

  get #isOver(): boolean {
    return this.#torrent.isClosed || Boolean(this.#torrent.handle.metadata);
  }

  #add(connection: PeerConnection): void {
    connection.once('extensions', () => {
      if (this.#isOver || connection.destroyed) return;
      if (this.#metadata !== undefined) this.#give(connection, this.#metadata);
      else if (connection.extensions.metadata.claimedBytes > 0) this.#waiting.add(connection);
      this.#next();
    });
    connection.once('close', () => {
      this.#waiting.delete(connection);
      this.#drop(connection);
    });
  }

  #next(): void {
    for (const connection of this.#waiting) {
      if (this.#isOver || this.#asked.size >= MAX_METADATA_SOURCES) return;
      this.#waiting.delete(connection);
      this.#asked.set(connection, setTimeout(() => this.#onLate(connection), METADATA_PATIENCE_MS).unref());
      void connection.extensions.metadata.fetch().then((metadata) => {
        if (metadata !== undefined && !this.#isOver) this.#give(connection, metadata);
        this.#drop(connection);
      });
    }
  }

  /** Gives the metadata to WebTorrent through a connection. If that connection ends first, the next one is used. */
  #give(connection: PeerConnection, metadata: Buffer): void {
    this.#metadata = metadata;
    connection.extensions.metadata.give(metadata);
  }

  /** Makes room for a waiting peer. The slow peer gets another turn later. */
  #onLate(connection: PeerConnection): void {
    if (this.#waiting.size === 0) {
      this.#asked.get(connection)?.refresh();
      return;
    }
    const waiting = [...this.#waiting];
    connection.extensions.metadata.cancel();
    this.#drop(connection);
    if (waiting.length > 0) this.#waiting.add(connection);
  }

  #drop(connection: PeerConnection): void {
    clearTimeout(this.#asked.get(connection));
    if (this.#asked.delete(connection)) this.#next();
  }

  #end(): void {
    for (const [connection, timer] of this.#asked) {
      clearTimeout(timer);
      connection.extensions.metadata.cancel();
    }
    this.#asked.clear();
    this.#waiting.clear();
  }
}
