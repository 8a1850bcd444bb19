import bencode from 'bencode';
import type { Fields } from '../torrent/bencoding.ts';
import type { Ends } from './ends.ts';
import { extendedMessage } from './messages.ts';

/** The extension for exchanging metadata (BEP 9). */
export const METADATA_EXTENSION = 'ut_metadata';
const PIECE_BYTES = 16 * 1024;
const [REQUEST, DATA, REJECT] = [0, 1, 2] as const;
/** Id that is given to the swarm if the peer has named none. */
const SOME_ID = 1;

export interface PeerMetadataOptions {
  /** Our own id of the extension, which the peer uses. */
  readonly ownId: () => number | undefined;
  /** Returns true if these bytes are the metadata. */
  readonly isSound: (metadata: Buffer) => boolean;
  /** Called with each piece of the metadata that the peer requests. */
  readonly onRequest: (piece: number) => void;
  /** Called when the swarm has answered such a request. */
  readonly onAnswered: () => void;
}

/**
 * The metadata of the torrent over one connection. The swarm never requests it from a peer: this class does, within
 * limits, and gives the swarm only verified metadata. Rewrites the extension's messages to and from the swarm in the
 * library's own form.
 */
export class PeerMetadata {
  readonly #ends: Ends;
  readonly #options: PeerMetadataOptions;
  /** The peer's id of the extension; 0 if it does not speak it. */
  #theirId = 0;
  #claimedBytes = 0;
  #fetching:
    | { readonly bytes: Buffer; readonly missing: Set<number>; readonly end: (metadata?: Buffer) => void }
    | undefined;
  /** The metadata that the swarm was told this peer has. */
  #given: Buffer | undefined;

  constructor(ends: Ends, options: PeerMetadataOptions) {
    this.#ends = ends;
    this.#options = options;
  }

  /** Size of the metadata that the peer claims to have. */
  get claimedBytes(): number {
    return this.#theirId === 0 ? 0 : this.#claimedBytes;
  }

  /** Handles the peer's handshake of extensions. */
  onHandshake(theirId: number | undefined, claimedBytes: number | undefined): void {
    this.#theirId = theirId ?? this.#theirId;
    if (this.#fetching === undefined) this.#claimedBytes = claimedBytes ?? this.#claimedBytes;
  }

  /** Requests the whole metadata from the peer. Resolves with undefined if the peer has none, lies, or disconnects. */
  fetch(): Promise<Buffer | undefined> {
    this.cancel();
    if (this.claimedBytes === 0) return Promise.resolve(undefined);
    const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
    const missing = new Set(Array.from({ length: Math.ceil(this.#claimedBytes / PIECE_BYTES) }, (_, piece) => piece));
    const end = (metadata?: Buffer): void => {
      this.#fetching = undefined;
      resolve(metadata);
    };
    this.#fetching = { bytes: Buffer.alloc(this.#claimedBytes), missing, end };
    for (const piece of missing) this.#ends.toPeer(this.#message(this.#theirId, { msg_type: REQUEST, piece }));
    return promise;
  }

  /** Stops waiting for the metadata. Drops later pieces. */
  cancel(): void {
    this.#fetching?.end();
  }

  /** Gives these bytes to the swarm, in the name of the peer. */
  give(metadata: Buffer): void {
    this.#given = metadata;
    const handshake = { m: { [METADATA_EXTENSION]: this.#theirId || SOME_ID }, metadata_size: metadata.length };
    this.#ends.toSwarm(this.#message(0, handshake));
  }

  /** Handles a message of the peer, with the bytes after its dictionary. */
  onMessage({ msg_type: kind, piece }: Fields, rest: Buffer): void {
    if (kind === REQUEST) {
      if (this.#theirId !== 0) this.#options.onRequest(Number(piece)); // without an id, it cannot be answered
    } else if (kind === DATA) this.#onData(Number(piece), rest);
    else if (kind === REJECT) this.cancel();
  }

  /** Requests a piece from the swarm. */
  ask(piece: number): void {
    if (this.#theirId === 0) return this.#options.onAnswered(); // the peer has withdrawn the extension
    this.#ends.toSwarm(this.#message(this.#options.ownId() ?? 0, { msg_type: REQUEST, piece }));
  }

  /** Handles a message of the swarm. @returns true if the peer should get it */
  onSent(id: number, payload: Buffer): boolean {
    if (id !== (this.#theirId || SOME_ID)) return true;
    if (!payload.subarray(0, ASKS.length).equals(ASKS)) {
      this.#options.onAnswered();
      return true;
    }
    const { piece } = bencode.decode(payload) as { readonly piece: number };
    const given = this.#given?.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES);
    if (given !== undefined)
      this.#ends.toSwarm(
        this.#message(this.#options.ownId() ?? 0, { msg_type: DATA, piece, total_size: this.#given?.length }, given),
      );
    return false;
  }

  #onData(piece: number, bytes: Buffer): void {
    const fetching = this.#fetching;
    if (fetching === undefined || !fetching.missing.delete(piece)) return; // it is late or was not requested
    const at = piece * PIECE_BYTES;
    if (bytes.length !== Math.min(PIECE_BYTES, fetching.bytes.length - at)) return this.#ends.refuse();
    bytes.copy(fetching.bytes, at);
    if (fetching.missing.size > 0) return;
    if (this.#options.isSound(fetching.bytes)) fetching.end(fetching.bytes);
    else this.#ends.refuse();
  }

  #message(id: number, fields: object, rest: Uint8Array = Buffer.alloc(0)): Buffer {
    return extendedMessage(id, Buffer.concat([bencode.encode(fields), rest]));
  }
}

/** The start of the library's requests. Keys are in order. */
const ASKS = Buffer.from('d8:msg_typei0e');
