// The part of WebTorrent that narswarm uses, private members included: see wire-tuning.ts for why.
declare module 'webtorrent' {
  import type { EventEmitter } from 'node:events';
  import type Torrent from 'webtorrent/lib/torrent.js';

  export default class WebTorrent extends EventEmitter {
    constructor(options: Record<string, unknown>);
    add(torrent: object | string, options: Record<string, unknown>): Torrent;
    get(infoHash: string): Promise<Torrent | null>;
    destroy(callback: (error?: Error) => void): void;
    torrents: Torrent[];
    torrentPort: number;
    throttleGroups: { limit?: import('../bytes/rate-limit.ts').RateLimit | undefined };
    /** Listens for peers; absent in WebTorrent's build for browsers, so that it does without. */
    _connPool: { destroy(): void } | undefined;
    _onListening(): void;
  }
}

declare module 'webtorrent/lib/peer.js' {
  import type { EventEmitter } from 'node:events';
  import type Wire from 'bittorrent-protocol';

  export default class Peer extends EventEmitter {
    addr: string;
    throttleGroups: { limit?: import('../bytes/rate-limit.ts').RateLimit | undefined };
    conn: import('../wire/peer-connection.ts').PeerConnection | null;
    wire: Wire | null;
    destroyed: boolean;
    destroy(error?: Error): void;
    setThrottlePipes(): void;
  }
}

declare module 'webtorrent/lib/torrent.js' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex } from 'node:stream';
  import type Wire from 'bittorrent-protocol';
  import type Piece from 'torrent-piece';

  export interface TorrentFile extends EventEmitter {
    readonly name: string;
    readonly path: string;
    readonly length: number;
    readonly offset: number;
    readonly done: boolean;
    _startPiece: number;
    _endPiece: number;
    select(priority?: number): void;
  }

  export default class Torrent extends EventEmitter {
    readonly infoHash: string | undefined;
    readonly files: TorrentFile[];
    readonly length: number;
    readonly pieceLength: number;
    readonly metadata: Uint8Array | null;
    readonly ready: boolean;
    readonly done: boolean;
    readonly destroyed: boolean;
    readonly wires: Wire[];
    readonly bitfield: { get(index: number): boolean };
    pieces: (Piece | null)[];
    store: {
      put(index: number, bytes: Uint8Array, done: (error?: Error | null) => void): void;
      get(
        index: number,
        range: { offset: number; length: number },
        done: (error: Error | null, bytes: Uint8Array) => void,
      ): void;
    };
    _hashes: string[];
    _selections: Iterable<{ from: number; to: number; offset: number }>;
    /** Takes a connection whose handshake is still to come; false if the torrent cannot. */
    addPeer(connection: Duplex & { readonly id: string }, source?: string): boolean;
    destroy(options: Record<string, unknown>, callback?: () => void): void;
    _destroy(error: Error): void;
    _markVerified(index: number): void;
    _checkDone(): boolean;
    _update(): void;
    _updateWire(wire: Wire): void;
    _debug(...parts: unknown[]): void;
  }
}

declare module 'torrent-piece' {
  export default class Piece {
    static BLOCK_LENGTH: number;
    constructor(length: number);
    readonly length: number;
    sources: unknown[] | null;
    reserve(): number;
    get(block: number): Uint8Array | undefined;
    cancel(block: number): void;
    set(block: number, bytes: Uint8Array, source: unknown): boolean;
  }
}

declare module 'bittorrent-protocol' {
  import type { EventEmitter } from 'node:events';

  interface Request {
    readonly piece: number;
    readonly offset: number;
    readonly length: number;
  }

  /** The extension that ut_metadata (BEP 9) hangs on each wire. */
  interface UtMetadata {
    metadata: Uint8Array | undefined;
    setMetadata(metadata: Uint8Array): Promise<boolean>;
    /** Asks for all of the metadata, now or when the peer has said how much it is. */
    fetch(): void;
    /** Asks for no metadata any more, and takes none. */
    cancel(): void;
  }

  export default class Wire extends EventEmitter {
    constructor(type?: string);
    readonly destroyed: boolean;
    readonly ut_metadata: UtMetadata;
    readonly extendedMapping: Record<number, string>;
    /** Extensions that the peer speaks, by name (BEP 10). */
    readonly peerExtendedMapping: Record<string, number>;
    use(extension: () => object): void;
    extended(name: string, payload: Uint8Array): void;
    handshake(infoHash: string, peerId: string, options: object): void;
    readonly _readableState: { readonly buffered: number };
    write(bytes: Uint8Array): boolean;
    pause(): void;
    resume(): void;
    destroy(): void;
    unchoke(): void;
    peerId: string;
    peerChoking: boolean;
    hasFast: boolean;
    peerPieces: { get(index: number): boolean };
    requests: Request[];
    peerRequests: Request[];
    downloaded: number;
    remoteAddress?: string;
    remotePort?: number;
    extendedHandshake: Record<string, unknown>;
    peerExtendedHandshake: Record<string, unknown>;
    downloadSpeed(bytes?: number): number;
    have(index: number): void;
    request(
      piece: number,
      offset: number,
      length: number,
      done: (error: Error | null, bytes: Uint8Array) => void,
    ): void;
    cancel(piece: number, offset: number, length: number): void;
    setTimeout(milliseconds: number, unref?: boolean): void;
    _debug(...parts: unknown[]): void;
    _push(bytes: Uint8Array): boolean | undefined;
    _write(bytes: Uint8Array, done: (error?: Error | null) => void): void;
    _buffer: Uint8Array[];
    _bufferSize: number;
    _parserSize: number;
    readonly _parser: (buffer: Uint8Array) => void;
    _processBuffer(): void;
    _onMessageLength(buffer: Uint8Array): void;
    _onRequest(index: number, offset: number, length: number): void;
    _onCancel(index: number, offset: number, length: number): void;
    _onPiece(index: number, offset: number, block: Uint8Array): void;
  }
}
