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
  MAX_MESSAGE_BYTES,
  MAX_METADATA_BYTES,
  MAX_PIECES,
} from './bounds.ts';
import { HANDSHAKE_BYTES, KIND, LENGTH_BYTES, PROTOCOL } from './protocol.ts';

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
  /** The part that is being gathered: the handshake, a length, a head, or a whole bencoded message. */
  #part: 'handshake' | 'length' | 'head' | 'bencoded' = 'handshake';
  #buffer = Buffer.allocUnsafe(HANDSHAKE_BYTES);
  #gathered = 0;
  #wanted = HANDSHAKE_BYTES;
  /** Length of the message whose head is being gathered, and the bytes of it that need no check. */
  #messageBytes = 0;
  #skipBytes = 0;
  #extendedHandshakes = 0;

  constructor(options: MessageGuardOptions) {
    this.#options = options;
  }

  /** Returns true if the peer may send this. After false, drop the chunk and end the connection. */
  accept(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at);
        this.#skipBytes -= skipped;
        at += skipped;
        continue;
      }
      const taken = Math.min(this.#wanted - this.#gathered, chunk.length - at);
      this.#buffer.set(chunk.subarray(at, at + taken), this.#gathered);
      this.#gathered += taken;
      at += taken;
      if (this.#gathered === this.#wanted && !this.#onGathered()) return false;
    }
    return true;
  }

  #gather(part: 'length' | 'head' | 'bencoded', bytes: number, gathered = 0): void {
    this.#part = part;
    this.#wanted = bytes;
    this.#gathered = gathered;
  }

  #onGathered(): boolean {
    const bytes = this.#buffer.subarray(0, this.#wanted);
    switch (this.#part) {
      case 'handshake':
        this.#gather('length', LENGTH_BYTES);
        return PROTOCOL.equals(bytes.subarray(0, PROTOCOL.length));
      case 'length':
        this.#messageBytes = bytes.readUInt32BE(0);
        if (this.#messageBytes === 0) this.#gather('length', LENGTH_BYTES);
        else this.#gather('head', Math.min(HEAD_BYTES, this.#messageBytes));
        return this.#messageBytes <= MAX_MESSAGE_BYTES;
      case 'head':
        return this.#onHead(bytes);
      default:
        this.#gather('length', LENGTH_BYTES);
        return this.#isSoundBencoded(bytes.subarray(2), bytes[1] ?? 0);
    }
  }

  #onHead(head: Buffer): boolean {
    const lengthBytes = this.#messageBytes;
    const kind = head[0] ?? 0;
    if (kind === KIND.EXTENDED) {
      if (head.length < 2) return false;
      const name = head[1] === 0 ? 'handshake' : this.#options.extension(head[1] ?? 0);
      if (name === 'handshake' || name === 'ut_metadata') return this.#gatherBencoded(head);
      if (name === 'lt_donthave' && (lengthBytes !== 6 || !this.#hasPiece(head.readUInt32BE(2)))) return false;
    } else if (!this.#isSound(kind, head)) {
      return false;
    }
    this.#skipBytes = lengthBytes - head.length;
    this.#gather('length', LENGTH_BYTES);
    return true;
  }

  #isSound(kind: number, head: Buffer): boolean {
    const lengthBytes = this.#messageBytes;
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

  #gatherBencoded(head: Buffer): boolean {
    if (this.#messageBytes > MAX_BENCODED_BYTES) return false;
    const whole = Buffer.allocUnsafe(Math.max(this.#messageBytes, HEAD_BYTES));
    whole.set(head);
    this.#buffer = whole;
    this.#gather('bencoded', this.#messageBytes, head.length);
    return head.length < this.#messageBytes || this.#onGathered();
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
