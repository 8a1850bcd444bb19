import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type Torrent from 'webtorrent/lib/torrent.js';
import type { Wire } from 'webtorrent/lib/torrent.js';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { StreamCipher } from '../wire/encryption.ts';
import type { TorrentShape } from '../wire/message-guard.ts';
import { ANNOUNCED_OPEN_REQUESTS, CLIENT_OPENING_MS } from '../wire/bounds.ts';
import { isSoundMetadata } from '../wire/metadata-check.ts';
import { PeerConnection } from '../wire/peer-connection.ts';
import type { ProcessorBudget } from '../wire/processor-budget.ts';
import type { SendBudget } from '../wire/send-budget.ts';
import type { PieceStorage } from './chunk-store.ts';
import type { DiskBacklog } from './disk-backlog.ts';

export interface OpenTorrentContext {
  readonly budget: SendBudget;
  readonly processor: ProcessorBudget;
  readonly openings: ProcessorBudget;
  readonly backlog: DiskBacklog;
  readonly downloadLimit: DirectionLimit | undefined;
  readonly uploadLimit: DirectionLimit | undefined;
  /** Returns true if the peer at `host:port` may get anything. */
  readonly mayHave: (address: string) => boolean;
  readonly onUpload: (infoHash: InfoHash, bytes: number) => void;
}

/** A new connection, and the data that its peer has sent so far. */
export interface NewPeer {
  readonly id: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly head?: Buffer;
  readonly cipher?: StreamCipher | undefined;
}

interface OpenTorrentEvents {
  /** A peer was accepted. WebTorrent has seen nothing after its handshake yet. */
  connection: [connection: PeerConnection];
}

/** A torrent that is open in WebTorrent, and our connections to its peers. */
export class OpenTorrent extends EventEmitter<OpenTorrentEvents> {
  readonly infoHash: InfoHash;
  readonly handle: Torrent;
  /** The storage of its bytes. Undefined until its contents are known. */
  storage: PieceStorage | undefined;
  /** False if peers get nothing from it. */
  readonly #gives: boolean;
  readonly #context: OpenTorrentContext;
  readonly #connections = new Map<string, PeerConnection>();
  readonly #welcomed = new Set<PeerConnection>();
  #shape: TorrentShape | undefined;

  constructor(infoHash: InfoHash, handle: Torrent, gives: boolean, context: OpenTorrentContext) {
    super();
    this.infoHash = infoHash;
    this.handle = handle;
    this.#gives = gives;
    this.#context = context;
    this.setMaxListeners(0);
    handle.setMaxListeners(0); // each connected peer waits for its end
    handle.on('wire', (wire: Wire, address: string) => this.#welcome(wire, address));
  }

  /** Peers that have the torrent and are connected now. */
  get connections(): readonly PeerConnection[] {
    return this.isClosed ? [] : [...this.#welcomed];
  }

  get isClosed(): boolean {
    return this.handle.destroyed;
  }

  /** Takes over the connection of a peer that has named this torrent, or ends it. Waits while its host has opened too many. */
  async accept(socket: Socket, peer: NewPeer): Promise<void> {
    await this.#context.openings.of(hostOf(peer)).enter(CLIENT_OPENING_MS, () => {
      if (socket.destroyed || this.isClosed) socket.destroy();
      else this.connect(socket, peer);
    });
  }

  /** Connects a peer over a connected socket. @returns undefined if the torrent cannot accept one */
  connect(socket: Socket, { head, ...peer }: NewPeer): PeerConnection | undefined {
    const { budget, processor, backlog, downloadLimit, uploadLimit, mayHave, onUpload } = this.#context;
    const host = hostOf(peer);
    const connection = new PeerConnection(
      socket,
      {
        ...peer,
        shape: () => this.#shapeNow(),
        isMetadata: (bytes) => isSoundMetadata(bytes, this.infoHash),
        gives: this.#gives && mayHave(`${peer.remoteAddress}:${peer.remotePort}`),
        holds: (index) => this.handle.bitfield?.get(index) === true,
        read: (targets, { index, offset }) => this.#read(targets, index * this.handle.pieceLength + offset),
        budget,
        time: processor.of(host),
        downloadLimit: downloadLimit?.towards(host),
        uploadLimit: uploadLimit?.towards(host),
        disk: backlog,
        onUpload: (bytes) => onUpload(this.infoHash, bytes),
      },
      head,
    );
    const { address } = connection;
    if (this.#connections.has(address)) {
      connection.destroy();
      return undefined;
    }
    this.#connections.set(address, connection);
    connection.once('close', () => {
      if (this.#connections.get(address) === connection) this.#connections.delete(address);
      this.#welcomed.delete(connection);
    });
    if (!this.isClosed && this.handle.addPeer(connection, 'narswarm')) return connection;
    connection.destroy();
    return undefined;
  }

  /**
   * Calls back when WebTorrent accepts peers, or when it is closed. WebTorrent reads even a bare infohash in a later
   * tick.
   */
  whenNamed(then: () => void): void {
    if (this.handle.infoHash !== undefined || this.isClosed) then();
    else this.handle.once('infoHash', then).once('close', then);
  }

  /** Ends every connection. Keeps the bytes in the storage. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    await new Promise<void>((resolve) => this.handle.destroy({}, () => resolve()));
  }

  #welcome(wire: Wire, address: string): void {
    const connection = this.#connections.get(address);
    if (connection === undefined) return; // it has already ended
    wire.setTimeout(0); // WebTorrent cannot tell when a peer is not to blame; DownloadPeers can
    wire.extendedHandshake['reqq'] = ANNOUNCED_OPEN_REQUESTS;
    this.#welcomed.add(connection);
    this.emit('connection', connection);
    connection.welcome(wire.extendedMapping);
  }

  #read(targets: readonly Uint8Array[], offset: number): Promise<void> {
    return this.storage?.read(targets, offset) ?? Promise.reject(new Error('the torrent has no storage yet'));
  }

  /** Returns the shape of the torrent. Undefined until its metadata is known. */
  #shapeNow(): TorrentShape | undefined {
    const { destroyed, metadata, pieces, pieceLength, length } = this.handle;
    if (this.#shape === undefined && !destroyed && metadata && pieces.length > 0)
      this.#shape = { pieces: pieces.length, pieceLength, lengthBytes: length };
    return this.#shape;
  }
}

function hostOf({ remoteAddress }: NewPeer): string {
  return remoteAddress.replaceAll(/[[\]]/g, '');
}
