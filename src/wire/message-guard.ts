/**
 * Checks messages of peers before any library sees them. WebTorrent, bittorrent-protocol and ut_metadata trust peers. A
 * HAVE of piece 0x0fffffff makes a map of rarities grow to that index until memory runs out. Two bytes of an empty
 * ut_metadata message throw inside a socket's handler, which ends the process. Six bytes of bad bencoding hang it.
 */
import bencode from 'bencode';
import { endOfValue, isDictionary, type Fields } from '../torrent/bencoding.ts';
import {
  MAX_BENCODED_BYTES,
  MAX_BLOCK_BYTES,
  MAX_EXTENDED_HANDSHAKES,
  MAX_METADATA_BYTES,
  MAX_PIECES,
} from './bounds.ts';
import { MessageCutter } from './message-cutter.ts';
import { KIND, PROTOCOL } from './protocol.ts';

/** Bounds for indexes and lengths. */
export interface TorrentShape {
  readonly pieces: number;
  readonly pieceLength: number;
  readonly lengthBytes: number;
}

export interface MessageGuardOptions {
  /** Returns the shape of the torrent. Undefined while its metadata is unknown. */
  readonly shape: () => TorrentShape | undefined;
  /** Returns the extension with this id (BEP 10) in our own handshake. */
  readonly extension: (id: number) => string | undefined;
}

/** Bytes at the start of a message that contain all its numbers: its kind and three of them. */
const HEAD_BYTES = 13;

/** Lengths of messages, including their kind, for kinds of fixed length. */
const LENGTHS: Readonly<Record<number, number>> = {
  [KIND.CHOKE]: 1,
  [KIND.UNCHOKE]: 1,
  [KIND.INTERESTED]: 1,
  [KIND.UNINTERESTED]: 1,
  [KIND.HAVE]: 5,
  [KIND.REQUEST]: 13,
  [KIND.CANCEL]: 13,
  [KIND.PORT]: 3,
  [KIND.SUGGEST]: 5,
  [KIND.HAVE_ALL]: 1,
  [KIND.HAVE_NONE]: 1,
  [KIND.REJECT]: 13,
  [KIND.ALLOWED_FAST]: 5,
};

/** Follows the bytes of one connection from the peer's handshake on, without copying more than a message's head. */
export class MessageGuard {
  readonly #options: MessageGuardOptions;
  readonly #cutter: MessageCutter;
  #extendedHandshakes = 0;

  constructor(options: MessageGuardOptions) {
    this.#options = options;
    this.#cutter = new MessageCutter(HEAD_BYTES, {
      handshake: (bytes) => PROTOCOL.equals(bytes.subarray(0, PROTOCOL.length)),
      head: (head, messageBytes) => this.#onHead(head, messageBytes),
      whole: (message) => this.#isSoundBencoded(message.subarray(2), message[1] ?? 0),
      passed: () => true,
    });
  }

  /** Returns true if the peer may send this. After false, drop the chunk and end the connection. */
  accept(chunk: Uint8Array): boolean {
    let at: number | undefined = 0;
    while (at !== undefined && at < chunk.length) at = this.#cutter.step(chunk, at);
    return at !== undefined;
  }

  #onHead(head: Buffer, messageBytes: number): 'gather' | 'pass' | 'refuse' {
    const kind = head[0] ?? 0;
    if (kind !== KIND.EXTENDED) return this.#isSound(kind, head, messageBytes) ? 'pass' : 'refuse';
    if (head.length < 2) return 'refuse';
    const name = head[1] === 0 ? 'handshake' : this.#options.extension(head[1] ?? 0);
    if (name === 'handshake' || name === 'ut_metadata') return messageBytes > MAX_BENCODED_BYTES ? 'refuse' : 'gather';
    if (name === 'lt_donthave' && (messageBytes !== 6 || !this.#hasPiece(head.readUInt32BE(2)))) return 'refuse';
    return 'pass';
  }

  #isSound(kind: number, head: Buffer, lengthBytes: number): boolean {
    const exact = LENGTHS[kind];
    if (exact !== undefined && lengthBytes !== exact) return false;
    switch (kind) {
      case KIND.HAVE:
      case KIND.SUGGEST:
      case KIND.ALLOWED_FAST:
        return this.#hasPiece(head.readUInt32BE(1));
      case KIND.BITFIELD:
        return this.#isBitfield(lengthBytes - 1);
      case KIND.REQUEST:
      case KIND.CANCEL:
      case KIND.REJECT:
        return this.#hasBlock(head.readUInt32BE(1), head.readUInt32BE(5), head.readUInt32BE(9));
      case KIND.PIECE:
        return lengthBytes > 9 && this.#hasBlock(head.readUInt32BE(1), head.readUInt32BE(5), lengthBytes - 9);
      default:
        return true; // without numbers, or of an unused kind
    }
  }

  #hasPiece(index: number): boolean {
    return index < (this.#options.shape()?.pieces ?? MAX_PIECES);
  }

  #isBitfield(bytes: number): boolean {
    const pieces = this.#options.shape()?.pieces;
    return pieces === undefined ? bytes <= MAX_PIECES / 8 : bytes === Math.ceil(pieces / 8);
  }

  #hasBlock(index: number, offset: number, length: number): boolean {
    if (length === 0 || length > MAX_BLOCK_BYTES || !this.#hasPiece(index)) return false;
    const shape = this.#options.shape();
    if (shape === undefined) return true;
    const { pieces, pieceLength, lengthBytes } = shape;
    const pieceBytes = index === pieces - 1 ? lengthBytes - index * pieceLength : pieceLength;
    return offset + length <= pieceBytes;
  }

  #isSoundBencoded(payload: Buffer, id: number): boolean {
    try {
      // Trailing bytes are a piece of metadata.
      const value = bencode.decode(payload.subarray(0, endOfValue(payload, 0)));
      if (!isDictionary(value)) return false;
      return id === 0 ? this.#isSoundHandshake(value) : isSoundMetadata(value);
    } catch {
      return false;
    }
  }

  #isSoundHandshake({ m, metadata_size: metadataBytes }: Readonly<Record<string, unknown>>): boolean {
    if (++this.#extendedHandshakes > MAX_EXTENDED_HANDSHAKES) return false;
    if (metadataBytes !== undefined && !isNumberUpTo(MAX_METADATA_BYTES, metadataBytes)) return false;
    return m === undefined || (isPlain(m) && Object.values(m).every((extension) => isNumberUpTo(255, extension)));
  }
}

/** Checks the fields that ut_metadata (BEP 9) uses unchecked. */
function isSoundMetadata(message: Readonly<Record<string, unknown>>): boolean {
  const { msg_type: kind, piece, total_size: totalBytes } = message;
  return (
    isNumberUpTo(255, kind) &&
    isNumberUpTo(MAX_METADATA_BYTES / 16_384, piece) &&
    (totalBytes === undefined || isNumberUpTo(MAX_METADATA_BYTES, totalBytes))
  );
}

/** Returns false for a dictionary that names a prototype. */
function isPlain(value: unknown): value is Fields {
  return isDictionary(value) && Object.getPrototypeOf(value) === Object.prototype;
}

function isNumberUpTo(limit: number, value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit;
}
