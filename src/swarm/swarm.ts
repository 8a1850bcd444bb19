import type { Socket } from 'node:net';
import { ConnectionGuard } from '../discovery/connection-guard.ts';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { LocalNetworks } from '../discovery/local-networks.ts';
import { PeerTable } from '../discovery/peer-table.ts';
import type { Members } from '../exchange/members.ts';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { asIPv4IfMapped } from '../wire/address-range.ts';
import type { Agreed } from '../wire/encryption.ts';
import { PeerServer } from '../wire/peer-server.ts';
import { chunkStore, MemoryStorage, type PieceStorage } from './chunk-store.ts';
import type { DiskBacklog } from './disk-backlog.ts';
import { DownloadPeers } from './download-peers.ts';
import { MetadataTurns } from './metadata-turns.ts';
import type { OpenTorrentsOptions } from './open-torrents.ts';
import { Seeding, type SeedingOptions } from './seeding.ts';
import { SkeyTable } from './skey-table.ts';
import { SwarmDownload } from './swarm-download.ts';
import { TorrentReader } from './torrent-reader.ts';
import { TorrentsOnDemand } from './torrents-on-demand.ts';
import type { Warn } from '../warning.ts';

export type { Seed } from './seeding.ts';

export interface SwarmOptions extends OpenTorrentsOptions, SeedingOptions {
  /** Address to listen on. Default: every address of the machine. */
  readonly host?: string | undefined;
  /** TCP ports. The first free one is used. Default: any. */
  readonly ports?: readonly number[] | undefined;
  /** Known peers. Default: none. */
  readonly peers?: PeerTable;
  /** Accepts the connections of peers that name the infohash of a group. Default: there are no groups. */
  readonly members?: Pick<Members, 'groups' | 'accept'>;
  /** True to turn all other peers away. Default: false. */
  readonly onlyMembers?: boolean;
  /** Called with warnings that do not concern a single download. */
  readonly onWarning?: Warn;
}

/**
 * The BitTorrent side of this process: one TCP port for all torrents, and the downloads. seeding.ts serves the requests
 * of peers. Loads WebTorrent for the first torrent. WebTorrent sees a peer only through a connection of ours
 * (wire/peer-connection.ts).
 */
export class Swarm implements AsyncDisposable {
  /** The peers met so far. */
  readonly peers: PeerTable;
  /** TCP port that peers connect to. */
  readonly port: number;
  readonly #torrents: TorrentsOnDemand;
  readonly #server: PeerServer;
  #closing: Promise<void> | undefined;

  private constructor(parts: { torrents: TorrentsOnDemand; peers: PeerTable; server: PeerServer }) {
    const { torrents, peers, server } = parts;
    this.#torrents = torrents;
    this.#server = server;
    this.peers = peers;
    this.port = server.port;
  }

  /** Starts to listen. @throws LISTEN_FAILED if the address or port is not available */
  static async listen(options: SwarmOptions = {}): Promise<Swarm> {
    const { peers = new PeerTable(), members } = options;
    const torrents = new TorrentsOnDemand(() => server.port, options);
    const seeding = new Seeding(torrents, options);
    const guard = new ConnectionGuard(
      options.serves ?? 'lan',
      (host) => peers.isBannedHost(host),
      options.networks ?? new LocalNetworks(),
    );
    const skeys = new SkeyTable(() => [
      ...(torrents.now?.infoHashes() ?? []),
      ...(members?.groups ?? []),
      ...(options.seedable?.() ?? []),
    ]);
    let server: PeerServer;
    try {
      server = await PeerServer.listen({
        host: options.host,
        ports: options.ports ?? [0],
        admit: (socket) => guard.admit(socket),
        infoHashOf: (hashed) => skeys.find(hashed),
        onPeer: async (socket, opening) => {
          if (members?.groups.has(opening.infoHash as InfoHash) === true) members.accept(socket, opening);
          else if (options.onlyMembers === true) socket.destroy();
          else await welcome(seeding, socket, opening);
        },
        onWarning: (error) => options.onWarning?.({ kind: 'failed', error }),
      });
    } catch (error) {
      const address = `${options.host ?? '0.0.0.0'}:${options.ports?.[0] ?? 0}`;
      throw new NarswarmError(
        'LISTEN_FAILED',
        `cannot listen on ${address} (${(error as Error).message}): choose another --listen or --port`,
        {
          cause: error,
          facts: { address },
        },
      );
    }
    return new Swarm({ torrents, peers, server });
  }

  /** Number of torrents that are open now, for seeding or downloading. */
  get openTorrents(): number {
    return this.#torrents.now?.size ?? 0;
  }

  /**
   * Downloads the missing pieces of a NAR into `storage`.
   *
   * @param have returns true for pieces that `storage` already has
   * @param options.gives true if peers get the pieces that are here. For a NAR that was not checked by NarHash, only if
   *   all its pieces come from this swarm. Default: true
   */
  async download(
    torrent: NarTorrent,
    storage: PieceStorage,
    have: (index: number) => boolean,
    { gives = true }: { readonly gives?: boolean } = {},
  ): Promise<SwarmDownload> {
    const pieces = Math.ceil(torrent.sizeBytes / torrent.pieceLength);
    const bitfield = new Uint8Array(Math.ceil(pieces / 8));
    for (let index = 0; index < pieces; index++) {
      if (have(index)) bitfield[index >> 3] = (bitfield[index >> 3] ?? 0) | (0x80 >> (index & 7));
    }
    // Loaded after the bitfield, which must be as old as `gives`: pieces that arrive meanwhile may have another source.
    const torrents = await this.#torrents.load();
    const { backlog } = torrents;
    const watched = whileWriting(storage, backlog, (index, bytes) => download.onGood(index, bytes));
    const opened = torrents.open(
      torrent.infoHash,
      torrent,
      { preloadedStore: chunkStore(torrent.pieceLength, torrent.sizeBytes, watched), bitfield },
      { gives },
    );
    opened.storage = storage;
    const download = new SwarmDownload(opened, this.peers, backlog);
    return download;
  }

  /**
   * Opens a torrent by its infohash alone (BEP 9): its metadata and single files come from peers. If it is already
   * open, for example as a seed, uses that one, which stays open afterwards.
   */
  async read(infoHash: InfoHash): Promise<TorrentReader> {
    const torrents = await this.#torrents.load();
    const known = torrents.get(infoHash);
    if (known !== undefined) return new TorrentReader(known, { closes: false });
    const { backlog } = torrents;
    const torrent = torrents.open(infoHash, undefined, {
      deselect: true,
      store: function MemoryChunkStore(pieceLength: number, options: { length: number }) {
        const storage = whileWriting(new MemoryStorage(pieceLength), backlog, (index, bytes) =>
          watch.onGood(index, bytes),
        );
        torrent.storage = storage;
        return chunkStore(pieceLength, options.length, storage);
      },
    });
    const watch = new DownloadPeers(torrent, { peers: this.peers, backlog });
    void new MetadataTurns(torrent);
    return new TorrentReader(torrent, { closes: true });
  }

  /** Closes every connection and frees the port. */
  close(): Promise<void> {
    this.#closing ??= Promise.all([this.#torrents[Symbol.asyncDispose](), this.#server.close()]).then(() => undefined);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Wraps a storage: reports each piece before it is written, and counts it until it is. */
function whileWriting(
  storage: PieceStorage,
  backlog: DiskBacklog,
  onPiece: (index: number, bytes: Uint8Array) => void,
): PieceStorage {
  return {
    read: (targets, offset) => storage.read(targets, offset),
    write: (index, bytes) => {
      onPiece(index, bytes);
      return backlog.write(bytes.length, () => storage.write(index, bytes));
    },
    close: () => storage.close(),
  };
}

/** Connects a peer to the torrent that it named, if that may be served. */
async function welcome(seeding: Seeding, socket: Socket, { infoHash, cipher, head }: Agreed): Promise<void> {
  const torrent = await seeding.answer(infoHash as InfoHash);
  if (torrent !== null) await new Promise<void>((resolve) => torrent.whenNamed(resolve));
  const { remoteAddress: host, remotePort } = socket;
  if (torrent === null || torrent.isClosed || host === undefined || remotePort === undefined) {
    socket.destroy();
    return;
  }
  const remoteAddress = asIPv4IfMapped(host);
  const id = formatEndpoint({ host: remoteAddress, port: remotePort });
  await torrent.accept(socket, { id, remoteAddress, remotePort, head, cipher });
}
