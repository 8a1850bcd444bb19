/**
 * Formats and reads the two handshakes that open a connection of the exchange: BitTorrent's (BEP 3) and the extended
 * one (BEP 10).
 */
import bencode from 'bencode';
import type { InfoHash } from '../../nix/brands.ts';
import { endOfValue, isDictionary } from '../../torrent/bencoding.ts';
import {
  HANDSHAKE_BYTES,
  INFO_HASH_AT,
  INFO_HASH_BYTES,
  KIND as WIRE_KIND,
  LENGTH_BYTES,
  PROTOCOL,
} from '../../wire/protocol.ts';
import { EXCHANGE_NAME } from './messages.ts';

/** The id that the other side uses for the exchange. */
export const OUR_EXTENSION_ID = 1;

/** Says that we understand the extensions of BEP 10. */
const RESERVED = Buffer.of(0, 0, 0, 0, 0, 0x10, 0, 0);
const PEER_ID_AT = INFO_HASH_AT + INFO_HASH_BYTES;

/** The extended handshake of a peer. */
export interface ExtendedHandshake {
  /** The id that it uses for the exchange. Undefined if it does not speak it. */
  readonly extensionId: number | undefined;
  /** The port that it listens on. Undefined if it does not say. */
  readonly port: number | undefined;
}

/** Formats everything that we send first, as one packet. */
export function formatOpening(group: InfoHash, peerId: Uint8Array, port: number): Buffer {
  const handshake = Buffer.concat([PROTOCOL, RESERVED, Buffer.from(group, 'hex'), peerId]);
  const fields = bencode.encode({ m: { [EXCHANGE_NAME]: OUR_EXTENSION_ID }, p: port });
  const head = Buffer.alloc(LENGTH_BYTES + 2);
  head.writeUInt32BE(2 + fields.length, 0);
  head[LENGTH_BYTES] = WIRE_KIND.EXTENDED;
  return Buffer.concat([handshake, head, fields]);
}

/**
 * Reads the 68 bytes of a peer's handshake. Undefined if they are not a handshake, or if the peer does not understand
 * BEP 10.
 */
export function parseHandshake(bytes: Buffer): { readonly group: InfoHash; readonly peerId: string } | undefined {
  if (bytes.length !== HANDSHAKE_BYTES || !PROTOCOL.equals(bytes.subarray(0, PROTOCOL.length))) return undefined;
  if (((bytes[PROTOCOL.length + 5] ?? 0) & 0x10) === 0) return undefined;
  return {
    group: bytes.toString('hex', INFO_HASH_AT, PEER_ID_AT) as InfoHash,
    peerId: bytes.toString('hex', PEER_ID_AT),
  };
}

/** Reads the dictionary of an extended handshake. Undefined if it is malformed. */
export function parseExtendedHandshake(payload: Buffer): ExtendedHandshake | undefined {
  try {
    const fields: unknown = bencode.decode(payload.subarray(0, endOfValue(payload, 0)));
    if (!isDictionary(fields)) return undefined;
    const id = isDictionary(fields['m']) ? fields['m'][EXCHANGE_NAME] : undefined;
    return {
      extensionId: isWholeUpTo(255, id) && id > 0 ? id : undefined,
      port: isWholeUpTo(65_535, fields['p']) && fields['p'] > 0 ? fields['p'] : undefined,
    };
  } catch {
    return undefined;
  }
}

function isWholeUpTo(limit: number, value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit;
}
