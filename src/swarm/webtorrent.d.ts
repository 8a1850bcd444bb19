// The part of WebTorrent that narswarm uses. Members with an underscore are private: only webtorrent-seams.ts uses
// them.
declare module 'webtorrent' {
  import type { EventEmitter } from 'node:events';
  import type Torrent from 'webtorrent/lib/torrent.js';

  export default class WebTorrent extends EventEmitter {
    constructor(options: Record<string, unknown>);
    add(torrent: object | string, options: Record<string, unknown>): Torrent;
    destroy(callback: (error?: Error) => void): void;
    torrentPort: number;
    /** Listens for peers. Absent in WebTorrent's build for browsers, so it is optional. */
    _connPool: { destroy(): void } | undefined;
    _onListening(): void;
  }
}

declare module 'webtorrent/lib/torrent.js' {
  import type { EventEmitter } from 'node:events';
  import type { Duplex } from 'node:stream';

  export interface TorrentFile extends EventEmitter {
    readonly path: string;
    readonly length: number;
    readonly offset: number;
    readonly done: boolean;
    select(priority?: number): void;
  }

  /** One connection in WebTorrent, from the `wire` event: the class of bittorrent-protocol. */
  export interface Wire {
    /** Names of extensions by the ids that the peer uses for them (BEP 10). */
    readonly extendedMapping: Record<number, string>;
    /** Further fields of our own extension handshake. */
    readonly extendedHandshake: Record<string, unknown>;
    /** Milliseconds until a request counts as timed out, which ends the connection. 0: never. */
    setTimeout(milliseconds: number, unref?: boolean): void;
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
    readonly pieces: readonly unknown[];
    /** The `info` dictionary. Undefined until it is known. */
    readonly info: { readonly pieces: Uint8Array } | undefined;
    readonly bitfield: { get(index: number): boolean } | undefined;
    /** Takes a connection whose handshake is still to come. Returns false if the torrent cannot take it. */
    addPeer(connection: Duplex & { readonly id: string }, source?: string): boolean;
    destroy(options: Record<string, unknown>, callback?: () => void): void;
  }
}
