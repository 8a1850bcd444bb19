import type WebTorrent from 'webtorrent';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import { mayHave, type Serves } from '../discovery/connection-guard.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { CLIENT_OPENING_TIME, CLIENT_PROCESSOR_TIME, MAX_CONNECTIONS } from '../wire/bounds.ts';
import { ProcessorBudget } from '../wire/processor-budget.ts';
import { SendBudget } from '../wire/send-budget.ts';
import { DiskBacklog } from './disk-backlog.ts';
import { OpenTorrent } from './open-torrent.ts';
import { parsedTorrent } from './parsed-torrent.ts';
import { asError, type Warn } from '../warning.ts';

export interface OpenTorrentsOptions {
  /** Hosts that may connect to us. Default: `lan`. */
  readonly serves?: Serves;
  /** Decides which hosts are on the local network. Default: those in the network of an interface. */
  readonly networks?: Pick<LocalNetworks, 'includes'>;
  /** Limit for everything that arrives from peers. */
  readonly downloadLimit?: DirectionLimit | undefined;
  /** Limit for the payload that is sent to peers. */
  readonly uploadLimit?: DirectionLimit | undefined;
  /** Memory for bytes that are sent to peers. Default: an own budget. */
  readonly budget?: SendBudget;
  /** Limits on the time that the messages of each host take. Default: those of {@link CLIENT_PROCESSOR_TIME}. */
  readonly processor?: ProcessorBudget;
  /** Limits on the time that new connections of each host take. Default: those of {@link CLIENT_OPENING_TIME}. */
  readonly openings?: ProcessorBudget;
  /** Called for a torrent that failed. */
  readonly onWarning?: Warn;
  /** Called with sent payload. */
  readonly onUpload?: (infoHash: InfoHash, bytes: number) => void;
}

/** The open torrents of a client, one per infohash, and their shared resources. */
export class OpenTorrents {
  /** Bytes of all downloads that wait for the disk. */
  readonly backlog = new DiskBacklog();
  /** Memory for bytes that are sent to peers. */
  readonly budget: SendBudget;
  readonly #processor: ProcessorBudget;
  readonly #openings: ProcessorBudget;
  readonly #client: WebTorrent;
  readonly #options: OpenTorrentsOptions;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #torrents = new Map<InfoHash, OpenTorrent>();

  constructor(client: WebTorrent, options: OpenTorrentsOptions) {
    this.#client = client;
    this.#options = options;
    this.budget = options.budget ?? new SendBudget();
    this.#processor = options.processor ?? new ProcessorBudget(CLIENT_PROCESSOR_TIME);
    this.#openings = options.openings ?? new ProcessorBudget(CLIENT_OPENING_TIME);
    this.#networks = options.networks ?? new LocalNetworks();
  }

  get size(): number {
    return this.#torrents.size;
  }

  infoHashes(): IterableIterator<InfoHash> {
    return this.#torrents.keys();
  }

  /** Returns the open torrent of an infohash. Undefined if there is none. */
  get(infoHash: InfoHash): OpenTorrent | undefined {
    const torrent = this.#torrents.get(infoHash);
    return torrent?.isClosed === true ? undefined : torrent;
  }

  /**
   * Opens a torrent. If the infohash is already open, WebTorrent ends the new one with an error.
   *
   * @param source the torrent, the bytes of a .torrent file, or nothing: then its metadata comes from peers
   * @param settings WebTorrent's settings
   * @param options.gives true if peers get the bytes that are here. Default: true
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
      processor: this.#processor,
      openings: this.#openings,
      backlog: this.backlog,
      downloadLimit: this.#options.downloadLimit,
      uploadLimit: this.#options.uploadLimit,
      mayHave: (address) => this.mayHave(address),
      onUpload: (of, bytes) => this.#options.onUpload?.(of, bytes),
    });
    this.#remember(torrent);
    return torrent;
  }

  /** Returns true if the scope lets a peer get anything, also one that we connected to. */
  mayHave(address: string): boolean {
    // The address of an incoming connection has an IPv6 host without brackets.
    const host = address.slice(0, address.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
    return mayHave(this.#options.serves ?? 'lan', host, this.#networks);
  }

  #remember(torrent: OpenTorrent): void {
    const { infoHash, handle } = torrent;
    if (this.get(infoHash) !== undefined) return; // WebTorrent refuses a second one
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
  storeCacheSlots: 0, // its cache would copy each piece again, and the page cache has it already
  uploads: MAX_CONNECTIONS, // there is no trading: every peer that asks is served
} as const;
