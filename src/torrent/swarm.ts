import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import type Wire from 'bittorrent-protocol';
import WebTorrent from 'webtorrent';
import type Torrent from 'webtorrent/lib/torrent.js';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { chunkStore, MemoryStorage, SeedStorage, type PieceStorage, type SeedFile } from './chunk-store.ts';
import { Cohort } from './cohort.ts';
import type { NarTorrent } from './canonical.ts';
import { ConnectionGuard, mayHave, MAX_CONNECTIONS, type Serves } from './connection-guard.ts';
import { parsedTorrent } from './parsed-torrent.ts';
import { takeBuffer } from './lent-buffers.ts';
import { PeerTable } from './peer-table.ts';
import type { RateLimit } from './rate-limit.ts';
import { SwarmDownload } from './swarm-download.ts';
import { TorrentReader } from './torrent-reader.ts';
import { announceLongRequests } from './block-requests.ts';
import { closeWhenIdle } from './idle-seed.ts';
import { guardMetadata } from './wire-guard.ts';
import { stateOf } from './wire-state.ts';
import { limitDownloads, tuneWebTorrent } from './wire-tuning.ts';

/** A torrent that may be seeded and the files behind it. */
export interface Seed {
  /** The canonical torrent of a NAR, or the bytes of a .torrent file. */
  readonly torrent: NarTorrent | Uint8Array;
  readonly files: readonly SeedFile[];
}

export interface SwarmOptions {
  /** Address to listen on. Default: every address of the machine. */
  readonly host?: string | undefined;
  /** TCP port; 0 or nothing picks a free one. */
  readonly port?: number | undefined;
  /** What may be seeded, asked for when a peer names an infohash for the first time. Default: nothing. */
  readonly seeds?: (infoHash: InfoHash) => Promise<Seed | undefined>;
  /** Who may connect to us. Default: `lan`. */
  readonly serves?: Serves;
  /** Milliseconds after which a seed without peers is closed; it opens again when asked for. Default: 30,000. */
  readonly idleSeedMs?: number;
  /** Milliseconds after which a peer is disconnected that asks a seed for nothing. Default: 120,000. */
  readonly idlePeerMs?: number;
  /** Limit for everything that comes in from peers. */
  readonly downloadLimit?: RateLimit | undefined;
  /** Told of things that concern no single download. */
  readonly onWarning?: (message: string) => void;
  /** Told of payload that went out. */
  readonly onUpload?: (infoHash: InfoHash, bytes: number) => void;
}

const IDLE_SEED_MS = 30_000;
const IDLE_PEER_MS = 120_000;
/** Azureus-style client id (BEP 20): NS, version 0.1.0.0. */
const PEER_ID_PREFIX = '-NS0100-';

/**
 * The BitTorrent side of this process: one TCP port for every torrent that is downloaded or seeded. With
 * wire-tuning.ts the only place that knows WebTorrent.
 */
export class Swarm implements AsyncDisposable {
  /** What is known of the peers that were met. */
  readonly peers = new PeerTable();
  /** The followers of the same publishers, and the small NARs that they have. */
  readonly cohort: Cohort;
  /** TCP port that peers connect to. */
  readonly port: number;
  readonly #client: WebTorrent;
  readonly #options: SwarmOptions;
  readonly #torrents = new Map<InfoHash, Torrent>();
  readonly #opening = new Map<InfoHash, Promise<Torrent | undefined>>();

  #closing: Promise<void> | undefined;

  private constructor(client: WebTorrent, options: SwarmOptions) {
    this.#client = client;
    this.#options = options;
    this.cohort = new Cohort(this.peers, (infoHash, address) => this.#readSmall(infoHash, address));
    this.port = (client._connPool.tcpServer.address() as AddressInfo).port;
    client.get = (infoHash) => this.#answer(infoHash as InfoHash);
    client.on('error', (error: Error) => options.onWarning?.(error.message));
    this.#guardConnections();
  }

  /** Starts listening. @throws LISTEN_FAILED where the address or port cannot be had */
  static async listen(options: SwarmOptions = {}): Promise<Swarm> {
    tuneWebTorrent();
    const client = new WebTorrent({
      // node:net takes the options object that WebTorrent passes on; a bare number would mean every address.
      torrentPort: { port: options.port ?? 0, ...(options.host === undefined ? {} : { host: options.host }) },
      peerId: Buffer.concat(
        [Buffer.from(PEER_ID_PREFIX), randomBytes(6).toString('hex')].map((part) => Buffer.from(part)),
      ),
      secure: 0, // MSE obfuscation costs a Diffie-Hellman exchange a connection: most of the time for small NARs
      utp: false, // its sends stall at 60 MB/s on loopback and it needs a native build
      dht: false, // one announce a cohort, made by dht.ts; not one a NAR
      lsd: false, // as above, by lan.ts; WebTorrent's ends the torrent on a socket error
      tracker: false,
      utPex: false, // would hand a NAR's peers on to strangers
      natUpnp: false, // opening ports in a router is the owner's decision
      natPmp: false,
      webSeeds: false, // URLs inside torrents are never followed
      maxConns: MAX_CONNECTIONS,
    });
    limitDownloads(client, options.downloadLimit);
    try {
      await once(client, 'listening');
    } catch (error) {
      const address = `${options.host ?? '0.0.0.0'}:${options.port ?? 0}`;
      throw new NarswarmError(
        'LISTEN_FAILED',
        `cannot listen on ${address} (${(error as Error).message}): choose another --listen or --port`,
        {
          cause: error,
          facts: { address },
        },
      );
    }
    return new Swarm(client, options);
  }

  /** Torrents that are open now, as seed or as download. */
  get openTorrents(): number {
    return this.#torrents.size;
  }

  /**
   * Downloads the missing pieces of a NAR into `storage`.
   *
   * @param have says which pieces `storage` holds already
   */
  download(torrent: NarTorrent, storage: PieceStorage, have: (index: number) => boolean): SwarmDownload {
    const pieces = Math.ceil(torrent.sizeBytes / torrent.pieceLength);
    const bitfield = new Uint8Array(Math.ceil(pieces / 8));
    for (let index = 0; index < pieces; index++) {
      if (have(index)) bitfield[index >> 3] = (bitfield[index >> 3] ?? 0) | (0x80 >> (index & 7));
    }
    const handle = this.#add(torrent, {
      preloadedStore: chunkStore(torrent.pieceLength, torrent.sizeBytes, storage),
      bitfield,
    });
    this.#remember(torrent.infoHash, handle);
    return new SwarmDownload(handle, this.peers);
  }

  /** Meets the members of a cohort in the swarm of this infohash, and gives and takes small NARs there. */
  meet(infoHash: InfoHash): void {
    if (this.#known(infoHash) !== undefined) return;
    const handle = this.#client.add(infoHash, { ...TORRENT_OPTIONS, deselect: true });
    this.#prepare(handle);
    this.#remember(infoHash, handle);
    this.cohort.meet(handle);
  }

  /**
   * Opens a torrent of which only the infohash is known (BEP 9): its metadata and single files come from peers. Where
   * it is open already, as a seed too, that one is read and stays open after the reader.
   */
  read(infoHash: InfoHash): TorrentReader {
    const known = this.#known(infoHash);
    if (known !== undefined) return new TorrentReader(known, this.peers, { closes: false });
    const handle = this.#client.add(infoHash, {
      ...TORRENT_OPTIONS,
      deselect: true,
      store: function MemoryChunkStore(pieceLength: number, options: { length: number }) {
        return chunkStore(pieceLength, options.length, new MemoryStorage(pieceLength));
      },
    });
    this.#prepare(handle);
    this.#remember(infoHash, handle);
    return new TorrentReader(handle, this.peers);
  }

  /** Closes every connection and frees the port. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => this.#client.destroy(() => resolve()));
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What WebTorrent asks on a handshake. Never rejects: nobody would catch it there, and the process would end. */
  async #answer(infoHash: InfoHash): Promise<Torrent | null> {
    try {
      return (await this.#open(infoHash)) ?? null;
    } catch (error) {
      this.#options.onWarning?.(`cannot seed ${infoHash}: ${(error as Error).message}`);
      return null;
    }
  }

  /** The torrent of that infohash that is open now. */
  #known(infoHash: InfoHash): Torrent | undefined {
    const torrent = this.#torrents.get(infoHash);
    return torrent?.destroyed === true ? undefined : torrent;
  }

  /** The torrent that a peer asked for by its infohash, opened as a seed if it may be. */
  async #open(infoHash: InfoHash): Promise<Torrent | undefined> {
    const known = this.#known(infoHash);
    if (known !== undefined) return known;
    let opening = this.#opening.get(infoHash);
    if (opening === undefined) {
      opening = this.#openSeed(infoHash).finally(() => this.#opening.delete(infoHash));
      this.#opening.set(infoHash, opening);
    }
    return opening;
  }

  /** The bytes of a NAR of one piece that may be served. */
  async #readSmall(infoHash: InfoHash, address: string): Promise<Uint8Array | undefined> {
    if (!this.#mayHave(address)) return undefined;
    const seed = await this.#options.seeds?.(infoHash);
    const [file] = seed?.files ?? [];
    if (seed === undefined || file === undefined || !('infoHash' in seed.torrent)) return undefined;
    const { sizeBytes, pieceLength } = seed.torrent;
    return sizeBytes > pieceLength ? undefined : readLent(file.path, sizeBytes);
  }

  async #openSeed(infoHash: InfoHash): Promise<Torrent | undefined> {
    const seed = await this.#options.seeds?.(infoHash).catch((error: unknown) => {
      this.#options.onWarning?.(`cannot seed ${infoHash}: ${String(error)}`);
      return undefined;
    });
    const meanwhile = this.#known(infoHash);
    if (seed === undefined || meanwhile !== undefined) return meanwhile;
    const storage = new SeedStorage(seed.files);
    const totalBytes = seed.files.reduce((sum, file) => sum + file.sizeBytes, 0);
    const handle = this.#add(seed.torrent, {
      // the gate has seen that the file is the one that was verified
      skipVerify: true,
      store: function SeedChunkStore(pieceLength: number) {
        return chunkStore(pieceLength, totalBytes, storage);
      },
    });
    this.#remember(infoHash, handle);
    closeWhenIdle(handle, {
      seedMs: this.#options.idleSeedMs ?? IDLE_SEED_MS,
      peerMs: this.#options.idlePeerMs ?? IDLE_PEER_MS,
    });
    const closed = new AbortController();
    handle.once('close', () => closed.abort());
    await once(handle, 'ready', { signal: closed.signal });
    return handle;
  }

  #add(torrent: NarTorrent | Uint8Array, options: Record<string, unknown>): Torrent {
    const handle = this.#client.add('infoHash' in torrent ? parsedTorrent(torrent) : torrent, {
      ...TORRENT_OPTIONS,
      ...options,
    });
    this.#prepare(handle);
    return handle;
  }

  /** Who was connected to, rather than connecting to us, gets no more than the scope gives either. */
  #mayHave(address: string): boolean {
    // An incoming connection's address has an IPv6 host without brackets.
    const host = address.slice(0, address.lastIndexOf(':')).replaceAll(/[[\]]/g, '');
    return mayHave(this.#options.serves ?? 'lan', host);
  }

  #prepare(handle: Torrent): void {
    handle.on('wire', (wire: Wire, address: string) => {
      stateOf(wire).address = address;
      if (!this.#mayHave(address)) wire.unchoke = stayChoked;
      announceLongRequests(wire);
      guardMetadata(wire, handle.infoHash ?? '');
    });
    handle.on('upload', (bytes: number) => this.#options.onUpload?.(handle.infoHash as InfoHash, bytes));
    handle.on('error', (error: Error | string) =>
      this.#options.onWarning?.(`torrent ${handle.infoHash}: ${String(error)}`),
    );
  }

  #remember(infoHash: InfoHash, handle: Torrent): void {
    if (this.#known(infoHash) !== undefined) return; // WebTorrent refuses the second one
    this.#torrents.set(infoHash, handle);
    handle.once('close', () => {
      if (this.#torrents.get(infoHash) === handle) this.#torrents.delete(infoHash);
    });
  }

  /** Turns away whom the scope does not admit, before a byte is read; bounds what strangers can open. */
  #guardConnections(): void {
    const pool = this.#client._connPool;
    const accept = pool._onConnection.bind(pool);
    const guard = new ConnectionGuard(this.#options.serves ?? 'lan', (host) => this.peers.isBannedHost(host));
    pool.tcpServer.maxConnections = MAX_CONNECTIONS;
    pool._onConnection = (socket: Socket, type: string) => {
      if (guard.admit(socket)) accept(socket, type);
      else socket.destroy();
    };
  }
}

/** Reads a small file into a buffer that its last reader gives back. */
async function readLent(path: string, sizeBytes: number): Promise<Uint8Array | undefined> {
  const handle = await open(path, 'r');
  const buffer = takeBuffer(sizeBytes);
  try {
    const { bytesRead } = await handle.read(buffer, 0, sizeBytes, 0);
    return bytesRead === sizeBytes ? buffer.subarray(0, sizeBytes) : undefined;
  } finally {
    await handle.close();
  }
}

function stayChoked(): void {
  // a choked peer asks for nothing, and is answered nothing
}

const TORRENT_OPTIONS = {
  announce: [],
  storeCacheSlots: 0, // its cache copies each piece once more; the page cache does that already
  uploads: MAX_CONNECTIONS, // nobody trades here: whoever asks is served
} as const;
