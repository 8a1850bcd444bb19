import type WebTorrent from 'webtorrent';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import { mayHave, type Serves } from '../discovery/connection-guard.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { MAX_CONNECTIONS } from '../wire/bounds.ts';
import { SendBudget } from '../wire/send-budget.ts';
import { DiskBacklog } from './disk-backlog.ts';
import { OpenTorrent } from './open-torrent.ts';
import { parsedTorrent } from './parsed-torrent.ts';
import { asError, type Warn } from '../warning.ts';

export interface OpenTorrentsOptions {
  /** Who may connect to us. Default: `lan`. */
  readonly serves?: Serves;
  /** Which hosts are on the local network. Default: those on a network of an interface. */
  readonly networks?: Pick<LocalNetworks, 'includes'>;
  /** Limit for everything that comes in from peers. */
  readonly downloadLimit?: DirectionLimit | undefined;
  /** Limit for the payload that peers are given. */
  readonly uploadLimit?: DirectionLimit | undefined;
  /** Memory for what is sent to peers. Default: a budget of its own. */
  readonly budget?: SendBudget;
  /** Told of a torrent that failed. */
  readonly onWarning?: Warn;
  /** Told of payload that went out. */
  readonly onUpload?: (infoHash: InfoHash, bytes: number) => void;
}

/** The torrents that are open at a client, one an infohash, and what they share. */
export class OpenTorrents {
  /** What waits for the disk, of all downloads. */
  readonly backlog = new DiskBacklog();
  /** Memory for what is sent to peers. */
  readonly budget: SendBudget;
  readonly #client: WebTorrent;
  readonly #options: OpenTorrentsOptions;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #torrents = new Map<InfoHash, OpenTorrent>();

  constructor(client: WebTorrent, options: OpenTorrentsOptions) {
    this.#client = client;
    this.#options = options;
    this.budget = options.budget ?? new SendBudget();
    this.#networks = options.networks ?? new LocalNetworks();
  }

  get size(): number {
    return this.#torrents.size;
  }

  infoHashes(): IterableIterator<InfoHash> {
    return this.#torrents.keys();
  }

  /** The torrent of that infohash that is open now. */
  get(infoHash: InfoHash): OpenTorrent | undefined {
    const torrent = this.#torrents.get(infoHash);
    return torrent?.isClosed === true ? undefined : torrent;
  }

  /**
   * Opens a torrent. If that infohash is open already, WebTorrent ends the new one with an error.
   *
   * @param source the torrent, the bytes of a .torrent file, or nothing: then its metadata comes from peers
   * @param settings of WebTorrent
   * @param options.gives whether peers are given what is there. Default: true
   */
  open(
    infoHash: InfoHash,
    source: NarTorrent | Uint8Array | undefined,
    settings: Readonly<Record<string, unknown>>,
    { gives = true }: { readonly gives?: boolean } = {},
  ): OpenTorrent {
    const handle = this.#client.add(asWebTorrentTakesIt(source) ?? infoHash, { ...TORRENT_SETTINGS, ...settings });
    handle.on('error', (error: Error | string) =>
      this.#options.onWarning?.({ kind: 'failed-torrent', infoHash, error: asError(error) }),
    );
    const torrent = new OpenTorrent(infoHash, handle, gives, {
      budget: this.budget,
      backlog: this.backlog,
      downloadLimit: this.#options.downloadLimit,
      uploadLimit: this.#options.uploadLimit,
      mayHave: (address) => this.mayHave(address),
      onUpload: (of, bytes) => this.#options.onUpload?.(of, bytes),
    });
    this.#remember(torrent);
    return torrent;
  }

  /** Who was connected to, rather than connecting to us, gets no more than the scope gives either. */
  mayHave(address: string): boolean {
    // An incoming connection's address has an IPv6 host without brackets.
    const host = address.slice(0, address.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
    return mayHave(this.#options.serves ?? 'lan', host, this.#networks);
  }

  #remember(torrent: OpenTorrent): void {
    const { infoHash, handle } = torrent;
    if (this.get(infoHash) !== undefined) return; // WebTorrent refuses the second one
    this.#torrents.set(infoHash, torrent);
    handle.once('close', () => {
      if (this.#torrents.get(infoHash) === torrent) this.#torrents.delete(infoHash);
    });
  }
}

function asWebTorrentTakesIt(source: NarTorrent | Uint8Array | undefined): object | undefined {
  return source !== undefined && 'infoHash' in source ? parsedTorrent(source) : source;
}

const TORRENT_SETTINGS = {
  announce: [],
  storeCacheSlots: 0, // its cache copies each piece once more; the page cache does that already
  uploads: MAX_CONNECTIONS, // nobody trades here: whoever asks is served
} as const;
