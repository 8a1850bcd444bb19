import type Wire from 'bittorrent-protocol';
import type Torrent from 'webtorrent/lib/torrent.js';
import { MAX_METADATA_SOURCES, METADATA_PATIENCE_MS } from '../wire/bounds.ts';

/**
 * Has a torrent ask few of its peers at a time for its metadata (BEP 9). WebTorrent asks each, and takes memory for as
 * much as each one claims there is.
 */
export class MetadataTurns {
  readonly #torrent: Torrent;
  readonly #asked = new Map<Wire, NodeJS.Timeout>();
  readonly #waiting = new Set<Wire>();

  /** @param torrent known by its infohash alone */
  constructor(torrent: Torrent) {
    this.#torrent = torrent;
    torrent.on('wire', (wire: Wire) => this.#add(wire));
    for (const event of ['metadata', 'close']) torrent.once(event, () => this.#end());
  }

  #add(wire: Wire): void {
    if (this.#torrent.metadata) return;
    wire.ut_metadata.cancel();
    // By the peer's first handshake of extensions it is known how much it claims.
    wire.once('extended', () => {
      if (wire.destroyed) return;
      this.#waiting.add(wire);
      this.#next();
    });
    wire.once('close', () => {
      this.#waiting.delete(wire);
      this.#drop(wire);
    });
  }

  #next(): void {
    for (const wire of this.#waiting) {
      if (this.#torrent.metadata || this.#asked.size >= MAX_METADATA_SOURCES) return;
      this.#waiting.delete(wire);
      this.#asked.set(wire, setTimeout(() => this.#onLate(wire), METADATA_PATIENCE_MS).unref());
      wire.ut_metadata.fetch();
    }
  }

  /** Makes room for another, if one waits; who was slow gets another turn. */
  #onLate(wire: Wire): void {
    if (this.#waiting.size === 0) {
      this.#asked.get(wire)?.refresh();
      return;
    }
    wire.ut_metadata.cancel();
    wire.ut_metadata.metadata = undefined;
    clearTimeout(this.#asked.get(wire));
    this.#asked.delete(wire);
    this.#next();
    this.#waiting.add(wire);
  }

  #drop(wire: Wire): void {
    clearTimeout(this.#asked.get(wire));
    if (this.#asked.delete(wire)) this.#next();
  }

  #end(): void {
    for (const timer of this.#asked.values()) clearTimeout(timer);
    this.#asked.clear();
    this.#waiting.clear();
  }
}
