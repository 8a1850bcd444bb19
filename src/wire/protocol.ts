/** The bytes of the peer protocol (BEP 3, 6, 10). */
import { randomBytes } from 'node:crypto';

/** The start of every handshake: the length of the protocol's name, and the name. */
export const PROTOCOL = Buffer.from('\x13BitTorrent protocol');
/** Bytes of a handshake: name, 8 reserved bytes, infohash, peer id. */
export const HANDSHAKE_BYTES = 68;
/** Offset of the infohash in a handshake. */
export const INFO_HASH_AT = 28;
export const INFO_HASH_BYTES = 20;
/** Byte of a handshake that announces the fast extension (BEP 6). */
export const FAST_AT = 27;
export const FAST_BIT = 0x04;
/** Byte of a handshake that announces extensions (BEP 10). */
export const EXTENDED_AT = 25;
export const EXTENDED_BIT = 0x10;
/** Bytes of the length before each message. */
export const LENGTH_BYTES = 4;

/** Azureus-style client id (BEP 20): NS, version 0.2.0.0. */
const PEER_ID_PREFIX = '-NS0200-';

/** Makes a peer id of 20 bytes that is unique to a process. */
export function newPeerId(): Buffer {
  return Buffer.from(PEER_ID_PREFIX + randomBytes(6).toString('hex'));
}

/** Kinds of messages. */
export const KIND = {
  CHOKE: 0,
  UNCHOKE: 1,
  INTERESTED: 2,
  UNINTERESTED: 3,
  HAVE: 4,
  BITFIELD: 5,
  REQUEST: 6,
  PIECE: 7,
  CANCEL: 8,
  PORT: 9,
  SUGGEST: 13,
  HAVE_ALL: 14,
  HAVE_NONE: 15,
  REJECT: 16,
  ALLOWED_FAST: 17,
  EXTENDED: 20,
} as const;
