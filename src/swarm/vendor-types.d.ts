/** Types for the used parts of packages that have none. */

declare module 'bencode' {
  /**
   * BEP 3. Bytes are Uint8Array in both directions. `decode` hangs or throws on hostile input, so check the input
   * first.
   */
  const bencode: { encode(value: unknown): Uint8Array; decode(bytes: Uint8Array): unknown };
  export default bencode;
}

declare module 'bittorrent-dht' {
  import { EventEmitter } from 'node:events';

  /** A mutable item of BEP 44 as the library keeps it. Absent optional fields are undefined, never null. */
  export interface StoredItem {
    v: unknown;
    k: Buffer;
    salt?: Buffer | undefined;
    sig: Buffer;
    seq?: number;
    /** The id of the node that put it. */
    id: Buffer;
  }

  /** Returns true if `signature` is a signature of `message` by the raw ed25519 key. Must not throw. */
  export type Verify = (signature: Buffer, message: Uint8Array, publicKey: Buffer) => boolean;

  export interface Options {
    /** Stands in for the UDP socket (read by k-rpc-socket). */
    socket?: EventEmitter;
    /** Default: the public routers. */
    bootstrap?: { host: string; port: number }[];
    verify?: Verify;
    /** Life of an announced peer in milliseconds. */
    maxAge?: number;
    maxPeers?: number;
    /** Milliseconds until a query counts as unanswered (read by k-rpc-socket). */
    timeout?: number;
  }

  export interface PutOptions {
    k: Buffer;
    salt?: Buffer | undefined;
    seq: number;
    v: unknown;
    sig: Buffer;
  }

  export class Client extends EventEmitter {
    constructor(options?: Options);
    readonly nodeId: Buffer;
    readonly nodes: { count(): number; toArray(): { host: string; port: number }[] };
    readonly ready?: true;
    addNode(node: { host: string; port: number }): void;
    get(
      target: Buffer,
      options: { salt?: Buffer | undefined; cache: boolean; verify: Verify },
      done: (error: Error | null) => void,
    ): void;
    put(options: PutOptions, done: (error: Error | null, key: Buffer, nodes?: number) => void): void;
    announce(infoHash: string, port: number, done: (error: Error | null, nodes?: number) => void): void;
    lookup(infoHash: string, done: (error: Error | null) => void): () => void;
    destroy(done: () => void): void;
    /** Not documented by the library: the items that this node answers a "get" from, by the target in hex. */
    readonly _values: { get(target: string): StoredItem | undefined; set(target: string, item: StoredItem): void };
  }
}

declare module 'create-torrent' {
  interface Options {
    readonly name: string;
    readonly pieceLength: number;
    /** Must be given: by default eight public trackers are added. */
    readonly announceList: readonly (readonly string[])[];
    readonly filterJunkFiles: boolean;
  }
  type NamedStream = import('node:stream').Readable & { name: string };
  export default function createTorrent(
    files: readonly NamedStream[],
    options: Options,
    done: (error: Error | null, torrentFile: Uint8Array) => void,
  ): void;
}
