/** The bytes of the peer protocol (BEP 3, 6, 10). */
import { randomBytes } from 'node:crypto';

/** How every handshake begins: the length of the protocol's name, and its name. */
export const PROTOCOL = Buffer.from('\x13BitTorrent protocol');
/** Name, 8 reserved bytes, infohash, peer id. */
export const HANDSHAKE_BYTES = 68;
/** Where the infohash is in a handshake. */
export const INFO_HASH_AT = 28;
export const INFO_HASH_BYTES = 20;
/** Where in a handshake the fast extension (BEP 6) is announced. */
export const FAST_AT = 27;
export const FAST_BIT = 0x04;
/** Where in a handshake extensions (BEP 10) are announced. */
export const EXTENDED_AT = 25;
export const EXTENDED_BIT = 0x10;
/** Before each message. */
export const LENGTH_BYTES = 4;

/** Azureus-style client id (BEP 20): NS, version 0.2.0.0. */
const PEER_ID_PREFIX = '-NS0200-';

/** 20 bytes that tell a process from all others. */
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
