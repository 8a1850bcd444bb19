import type Wire from 'bittorrent-protocol';
import type WebTorrent from 'webtorrent';
import type Torrent from 'webtorrent/lib/torrent.js';
import type { InfoHash } from '../nix/brands.ts';
import { announceLongRequests } from './block-requests.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { MAX_CONNECTIONS } from '../wire/bounds.ts';
import { mayHave, type Serves } from '../discovery/connection-guard.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import { parsedTorrent } from './parsed-torrent.ts';
import { UploadBudget } from './upload-budget.ts';
import { guardMetadata } from './wire-guard.ts';
import { stateOf } from './wire-state.ts';

export interface OpenTorrentsOptions {
  /** Who may connect to us. Default: `lan`. */
  readonly serves?: Serves;
  /** Which hosts are on the local network. Default: those on a network of an interface. */
  readonly networks?: Pick<LocalNetworks, 'includes'>;
  /** Told of a torrent that failed. */
  readonly onWarning?: (message: string) => void;
  /** Told of payload that went out. */
  readonly onUpload?: (infoHash: InfoHash, bytes: number) => void;
}

/** The torrents that are open at a client, one an infohash. Each is guarded against the peers that it meets. */
export class OpenTorrents {
  readonly #client: WebTorrent;
  readonly #options: OpenTorrentsOptions;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #torrents = new Map<InfoHash, Torrent>();
  readonly #uploads = new UploadBudget();

  constructor(client: WebTorrent, options: OpenTorrentsOptions) {
    this.#client = client;
    this.#options = options;
    this.#networks = options.networks ?? new LocalNetworks();
  }

  get size(): number {
    return this.#torrents.size;
  }

  infoHashes(): IterableIterator<InfoHash> {
    return this.#torrents.keys();
  }

  /** The torrent of that infohash that is open now. */
  get(infoHash: InfoHash): Torrent | undefined {
    const torrent = this.#torrents.get(infoHash);
    return torrent?.destroyed === true ? undefined : torrent;
  }

  /**
   * Opens a torrent. Where that infohash is open already, WebTorrent ends the new one with an error.
   *
   * @param source the torrent, the bytes of a .torrent file, or nothing: then its metadata comes from peers
   * @param options of WebTorrent
   */
  open(
    infoHash: InfoHash,
    source: NarTorrent | Uint8Array | undefined,
    options: Readonly<Record<string, unknown>>,
  ): Torrent {
    const handle = this.#client.add(asWebTorrentTakesIt(source) ?? infoHash, { ...TORRENT_OPTIONS, ...options });
    this.#prepare(handle);
    this.#remember(infoHash, handle);
    return handle;
  }

  /** Who was connected to, rather than connecting to us, gets no more than the scope gives either. */
  mayHave(address: string): boolean {
    // An incoming connection's address has an IPv6 host without brackets.
    const host = address.slice(0, address.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
    return mayHave(this.#options.serves ?? 'lan', host, this.#networks);
  }

  #prepare(handle: Torrent): void {
    handle.setMaxListeners(0); // each peer that is connected to waits for its end
    handle.on('wire', (wire: Wire, address: string) => {
      const state = stateOf(wire);
      state.address = address;
      state.budget = this.#uploads;
      this.#uploads.add(wire);
      state.connection?.welcome(wire.extendedMapping);
      if (!this.mayHave(address)) keepChoked(wire);
      announceLongRequests(wire);
      guardMetadata(wire, handle.infoHash ?? '');
    });
    handle.on('upload', (bytes: number) => this.#options.onUpload?.(handle.infoHash as InfoHash, bytes));
    handle.on('error', (error: Error | string) =>
      this.#options.onWarning?.(`torrent ${handle.infoHash}: ${String(error)}`),
    );
  }

  #remember(infoHash: InfoHash, handle: Torrent): void {
    if (this.get(infoHash) !== undefined) return; // WebTorrent refuses the second one
    this.#torrents.set(infoHash, handle);
    handle.once('close', () => {
      if (this.#torrents.get(infoHash) === handle) this.#torrents.delete(infoHash);
    });
  }
}

function asWebTorrentTakesIt(source: NarTorrent | Uint8Array | undefined): object | undefined {
  return source !== undefined && 'infoHash' in source ? parsedTorrent(source) : source;
}

/** Gives a peer nothing: a choked one asks for nothing, and is answered nothing. */
export function keepChoked(wire: Wire): void {
  wire.unchoke = () => undefined;
}

const TORRENT_OPTIONS = {
  announce: [],
  storeCacheSlots: 0, // its cache copies each piece once more; the page cache does that already
  uploads: MAX_CONNECTIONS, // nobody trades here: whoever asks is served
} as const;
