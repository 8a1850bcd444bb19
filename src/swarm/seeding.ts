import { once } from 'node:events';
import type { InfoHash } from '../nix/brands.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { chunkStore, SeedStorage, type PieceStorage, type SeedFile } from './chunk-store.ts';
import { closeWhenIdle, longestUnused } from './idle-seed.ts';
import type { OpenTorrent } from './open-torrent.ts';
import type { TorrentsOnDemand } from './torrents-on-demand.ts';
import { asError, type Warn } from '../warning.ts';

/** A torrent that may be seeded, and its files. */
export interface Seed {
  /** The canonical torrent of a NAR, or the bytes of a .torrent file. */
  readonly torrent: NarTorrent | Uint8Array;
  readonly files: readonly SeedFile[];
}

export interface SeedingOptions {
  /** Returns the seed of an infohash that a peer names, if it may be served now. Default: there is none. */
  readonly seeds?: (infoHash: InfoHash) => Promise<Seed | undefined>;
  /**
   * Returns the infohashes that `seeds` may know. Encrypted peers name a torrent by a hash of its infohash. Default:
   * none.
   */
  readonly seedable?: () => Iterable<InfoHash>;
  /** Milliseconds after which a seed without peers is closed. It opens again on the next request. Default: 30,000. */
  readonly idleSeedMs?: number;
  /** Milliseconds after which a peer that asks a seed for nothing is disconnected. Default: 120,000. */
  readonly idlePeerMs?: number;
  /** Limit on open seeds. Beyond it, the one that was unused for longest is closed. Default: 1024. */
  readonly maxSeeds?: number;
  /** Called if something could not be seeded. */
  readonly onWarning?: Warn;
}

const IDLE_SEED_MS = 30_000;
const IDLE_PEER_MS = 120_000;
/** Enough for a client that downloads a large closure as torrents at once. */
const MAX_SEEDS = 1024;

/** Serves the torrents that peers ask for. Opens a seed when a peer names it, and closes it when no peer uses it. */
export class Seeding {
  readonly #torrents: TorrentsOnDemand;
  readonly #options: SeedingOptions;
  readonly #opening = new Map<InfoHash, Promise<OpenTorrent | undefined>>();
  /** The torrents that were opened here. Others are being fetched. */
  readonly #opened = new Map<OpenTorrent, { readonly openedAtMs: number }>();

  constructor(torrents: TorrentsOnDemand, options: SeedingOptions) {
    this.#torrents = torrents;
    this.#options = options;
  }

  /**
   * Returns the torrent that a peer named in its handshake, opened if necessary. Null if it may not be served. Never
   * rejects.
   */
  async answer(infoHash: InfoHash): Promise<OpenTorrent | null> {
    try {
      return (await this.#open(infoHash)) ?? null;
    } catch (error) {
      this.#options.onWarning?.({ kind: 'failed-seed', infoHash, error: asError(error) });
      return null;
    }
  }

  /** Opens the torrent of an infohash as a seed, if it may be served. Closes an open one that no longer may be. */
  async #open(infoHash: InfoHash): Promise<OpenTorrent | undefined> {
    const known = this.#torrents.now?.get(infoHash);
    if (known !== undefined && this.#opened.has(known) && (await this.#options.seeds?.(infoHash)) === undefined) {
      await known.close();
      return undefined;
    }
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
      // The gate has checked that the file is the verified one.
      skipVerify: true,
      store: function SeedChunkStore(pieceLength: number) {
        return chunkStore(pieceLength, totalBytes, storage);
      },
    });
    torrent.storage = storage;
    this.#opened.set(torrent, { openedAtMs: performance.now() });
    torrent.handle.once('close', () => this.#opened.delete(torrent));
    if (this.#opened.size > (this.#options.maxSeeds ?? MAX_SEEDS)) void longestUnused(this.#opened, torrent)?.close();
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

/** The storage of a seed. Is closed when a file cannot be read: then the gate decides again at the next request. */
function untilItFails(storage: PieceStorage, onFailure: () => void): PieceStorage {
  return {
    read: (targets, offset) =>
      storage.read(targets, offset).catch((error: unknown) => {
        onFailure();
        throw error;
      }),
    write: (index, bytes) => storage.write(index, bytes),
    close: () => storage.close(),
  };
}
