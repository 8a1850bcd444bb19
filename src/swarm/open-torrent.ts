import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type Torrent from 'webtorrent/lib/torrent.js';
import type { Wire } from 'webtorrent/lib/torrent.js';
import type { DirectionLimit } from '../bytes/rate-limit.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { StreamCipher } from '../wire/encryption.ts';
import type { TorrentShape } from '../wire/message-guard.ts';
import { ANNOUNCED_OPEN_REQUESTS } from '../wire/bounds.ts';
import { isSoundMetadata } from '../wire/metadata-check.ts';
import { PeerConnection } from '../wire/peer-connection.ts';
import type { SendBudget } from '../wire/send-budget.ts';
import type { PieceStorage } from './chunk-store.ts';
import type { DiskBacklog } from './disk-backlog.ts';

export interface OpenTorrentContext {
  readonly budget: SendBudget;
  readonly backlog: DiskBacklog;
  readonly downloadLimit: DirectionLimit | undefined;
  readonly uploadLimit: DirectionLimit | undefined;
  /** True if the peer at `host:port` may be given anything. */
  readonly mayHave: (address: string) => boolean;
  readonly onUpload: (infoHash: InfoHash, bytes: number) => void;
}

/** A connection that was made, and what its peer has said so far. */
export interface NewPeer {
  readonly id: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly head?: Buffer;
  readonly cipher?: StreamCipher | undefined;
}

interface OpenTorrentEvents {
  /** A peer is taken in; WebTorrent sees nothing behind its handshake yet. */
  connection: [connection: PeerConnection];
}

/** A torrent that is open at WebTorrent, and our connections to its peers. */
export class OpenTorrent extends EventEmitter<OpenTorrentEvents> {
  readonly infoHash: InfoHash;
  readonly handle: Torrent;
  /** Where its bytes are, once it is known what they are. */
  storage: PieceStorage | undefined;
  /** False: whoever asks is given nothing. */
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
    handle.setMaxListeners(0); // each peer that is connected to waits for its end
    handle.on('wire', (wire: Wire, address: string) => this.#welcome(wire, address));
    const stop = context.backlog.onFree(() => {
      for (const connection of this.#connections.values()) connection.readOn();
    });
    handle.once('close', stop);
  }

  /** Peers that have the torrent and are connected now. */
  get connections(): readonly PeerConnection[] {
    return this.isClosed ? [] : [...this.#welcomed];
  }

  get isClosed(): boolean {
    return this.handle.destroyed;
  }

  /** Takes in a peer over a socket that is connected. @returns undefined if the torrent cannot */
  connect(socket: Socket, { head, ...peer }: NewPeer): PeerConnection | undefined {
    const { budget, backlog, downloadLimit, uploadLimit, mayHave, onUpload } = this.#context;
    const host = peer.remoteAddress.replaceAll(/[[\]]/g, '');
    const connection = new PeerConnection(
      socket,
      {
        ...peer,
        shape: () => this.#shapeNow(),
        isMetadata: (bytes) => isSoundMetadata(bytes, this.infoHash),
        gives: this.#gives && mayHave(`${peer.remoteAddress}:${peer.remotePort}`),
        holds: (index) => this.handle.bitfield?.get(index) === true,
        budget,
        downloadLimit: downloadLimit?.towards(host),
        uploadLimit: uploadLimit?.towards(host),
        isHeldUp: () => backlog.isFull,
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

  /** Calls back when WebTorrent takes peers, which reads even a bare infohash in a later tick, or it is closed. */
  whenNamed(then: () => void): void {
    if (this.handle.infoHash !== undefined || this.isClosed) then();
    else this.handle.once('infoHash', then).once('close', then);
  }

  /** Ends every connection; what is in the storage stays. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    await new Promise<void>((resolve) => this.handle.destroy({}, () => resolve()));
  }

  #welcome(wire: Wire, address: string): void {
    const connection = this.#connections.get(address);
    if (connection === undefined) return; // it is gone already
    wire.setTimeout(0); // it does not know when a peer is not to blame; who downloads does
    wire.extendedHandshake['reqq'] = ANNOUNCED_OPEN_REQUESTS;
    this.#welcomed.add(connection);
    this.emit('connection', connection);
    connection.welcome(wire.extendedMapping);
  }

  /** The shape of the torrent, once its metadata is known. */
  #shapeNow(): TorrentShape | undefined {
    const { destroyed, metadata, pieces, pieceLength, length } = this.handle;
    if (this.#shape === undefined && !destroyed && metadata && pieces.length > 0)
      this.#shape = { pieces: pieces.length, pieceLength, lengthBytes: length };
    return this.#shape;
  }
}
