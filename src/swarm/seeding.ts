import { once } from 'node:events';
import type { InfoHash } from '../nix/brands.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { chunkStore, SeedStorage, type PieceStorage, type SeedFile } from './chunk-store.ts';
import { closeWhenIdle } from './idle-seed.ts';
import type { OpenTorrent } from './open-torrent.ts';
import type { TorrentsOnDemand } from './torrents-on-demand.ts';
import { asError, type Warn } from '../warning.ts';

/** A torrent that may be seeded and the files behind it. */
export interface Seed {
  /** The canonical torrent of a NAR, or the bytes of a .torrent file. */
  readonly torrent: NarTorrent | Uint8Array;
  readonly files: readonly SeedFile[];
}

export interface SeedingOptions {
  /** What may be seeded, asked for when a peer names an infohash for the first time. Default: nothing. */
  readonly seeds?: (infoHash: InfoHash) => Promise<Seed | undefined>;
  /** The infohashes that `seeds` may give something for: encrypted peers name a torrent by a hash of it. Default: none. */
  readonly seedable?: () => Iterable<InfoHash>;
  /** Milliseconds after which a seed without peers is closed; it opens again when asked for. Default: 30,000. */
  readonly idleSeedMs?: number;
  /** Milliseconds after which a peer is disconnected that asks a seed for nothing. Default: 120,000. */
  readonly idlePeerMs?: number;
  /** Told of what could not be seeded. */
  readonly onWarning?: Warn;
}

const IDLE_SEED_MS = 30_000;
const IDLE_PEER_MS = 120_000;

/** What peers ask of us: seeds are opened when one is named, and closed when nobody uses them. */
export class Seeding {
  readonly #torrents: TorrentsOnDemand;
  readonly #options: SeedingOptions;
  readonly #opening = new Map<InfoHash, Promise<OpenTorrent | undefined>>();

  constructor(torrents: TorrentsOnDemand, options: SeedingOptions) {
    this.#torrents = torrents;
    this.#options = options;
  }

  /** The torrent that a peer has named in its handshake, opened if it may be served; null if not. Never rejects. */
  async answer(infoHash: InfoHash): Promise<OpenTorrent | null> {
    try {
      return (await this.#open(infoHash)) ?? null;
    } catch (error) {
      this.#options.onWarning?.({ kind: 'failed-seed', infoHash, error: asError(error) });
      return null;
    }
  }

  /** The torrent that a peer asked for by its infohash, opened as a seed if it may be. */
  async #open(infoHash: InfoHash): Promise<OpenTorrent | undefined> {
    const known = this.#torrents.now?.get(infoHash);
    if (known !== undefined) return known;
    let opening = this.#opening.get(infoHash);
    if (opening === undefined) {
      opening = this.#openSeed(infoHash).finally(() => this.#opening.delete(infoHash));
      this.#opening.set(infoHash, opening);
    }
    return opening;
  }

  async #openSeed(infoHash: InfoHash): Promise<OpenTorrent | undefined> {
    const seed = await this.#options.seeds?.(infoHash).catch((error: unknown) => {
      this.#options.onWarning?.({ kind: 'failed-seed', infoHash, error: asError(error) });
      return undefined;
    });
    if (seed === undefined) return this.#torrents.now?.get(infoHash);
    const torrents = await this.#torrents.load();
    const meanwhile = torrents.get(infoHash);
    if (meanwhile !== undefined) return meanwhile;
    const storage = untilItFails(new SeedStorage(seed.files), () => void torrent.close());
    const totalBytes = seed.files.reduce((sum, file) => sum + file.sizeBytes, 0);
    const torrent = torrents.open(infoHash, seed.torrent, {
      // the gate has seen that the file is the one that was verified
      skipVerify: true,
      store: function SeedChunkStore(pieceLength: number) {
        return chunkStore(pieceLength, totalBytes, storage);
      },
    });
    torrent.storage = storage;
    closeWhenIdle(torrent, {
      seedMs: this.#options.idleSeedMs ?? IDLE_SEED_MS,
      peerMs: this.#options.idlePeerMs ?? IDLE_PEER_MS,
    });
    const closed = new AbortController();
    torrent.handle.once('close', () => closed.abort());
    await once(torrent.handle, 'ready', { signal: closed.signal });
    return torrent;
  }
}

/** The storage of a seed, which is closed when a file cannot be read: the next who asks is let in by the gate, or not. */
function untilItFails(storage: PieceStorage, onFailure: () => void): PieceStorage {
  return {
    read: (offset, length) =>
      storage.read(offset, length).catch((error: unknown) => {
        onFailure();
        throw error;
      }),
    write: (index, bytes) => storage.write(index, bytes),
    close: () => storage.close(),
  };
}
