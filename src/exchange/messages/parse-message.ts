/** Parses messages of the exchange, and checks each number in them. */
import type { FileHash, InfoHash, StoreHash } from '../../nix/brands.ts';
import { encodeNix32 } from '../../nix/nix32.ts';
import {
  MAX_ANY_CANDIDATES,
  MAX_DATA_BYTES,
  MAX_EXCHANGE_NARINFO_BYTES,
  MAX_FETCHES_PER_MESSAGE,
  MAX_NARINFOS_PER_MESSAGE,
  MAX_PIECES,
  MAX_PREFIXES_PER_MESSAGE,
} from '../../wire/bounds.ts';
import {
  BYTES,
  KIND,
  REFUSALS,
  type Candidate,
  type Fetch,
  type FilePrefix,
  type Message,
  type Refusal,
} from './messages.ts';

/**
 * Parses the body of a message. Byte strings in it are slices of `body`.
 *
 * @returns `unknown` for a kind that a later version may have; undefined if it is malformed
 */
export function parseBody(body: Uint8Array): Message | 'unknown' | undefined {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  const rest = bytes.length - 1;
  switch (bytes[0]) {
    case undefined:
      return undefined;
    case KIND.WANT: {
      const prefixes = rest < 4 ? undefined : prefixesFrom(bytes, 5);
      return prefixes && { kind: 'want', batch: bytes.readUInt32BE(1), prefixes };
    }
    case KIND.HAVE_MAP:
      if (rest < 5 || rest > 4 + MAX_PREFIXES_PER_MESSAGE / 8) return undefined;
      return { kind: 'haveMap', batch: bytes.readUInt32BE(1), bitmap: bytes.subarray(5) };
    case KIND.HAVE:
    case KIND.UNWANT: {
      const prefixes = prefixesFrom(bytes, 1);
      return prefixes && { kind: bytes[0] === KIND.HAVE ? 'have' : 'unwant', prefixes };
    }
    case KIND.PIECES:
      return parsePieces(bytes);
    case KIND.PIECE: {
      if (rest !== BYTES.PREFIX + 4) return undefined;
      const index = bytes.readUInt32BE(1 + BYTES.PREFIX);
      return index < MAX_PIECES ? { kind: 'piece', prefix: prefixAt(bytes, 1), index } : undefined;
    }
    case KIND.GET:
      return parseGet(bytes);
    case KIND.DATA:
      if (rest < 5 || rest > 4 + MAX_DATA_BYTES) return undefined;
      return { kind: 'data', id: bytes.readUInt32BE(1), bytes: bytes.subarray(BYTES.DATA_HEAD) };
    case KIND.REFUSE:
      return rest === 5 ? { kind: 'refuse', id: bytes.readUInt32BE(1), reason: refusalOf(bytes[5]) } : undefined;
    case KIND.CANCEL:
      return rest === 4 ? { kind: 'cancel', id: bytes.readUInt32BE(1) } : undefined;
    case KIND.ANY:
      return parseAny(bytes);
    case KIND.PICKED: {
      if (rest !== 6) return undefined;
      const index = bytes.readUInt16BE(5);
      return index < MAX_ANY_CANDIDATES ? { kind: 'picked', id: bytes.readUInt32BE(1), index } : undefined;
    }
    case KIND.FETCHING:
      return parseFetching(bytes);
    case KIND.NARINFO_GET:
      return parseNarInfoGet(bytes);
    case KIND.NARINFO: {
      if (rest < 6 || rest > 6 + MAX_EXCHANGE_NARINFO_BYTES) return undefined;
      const index = bytes.readUInt16BE(5);
      if (index >= MAX_NARINFOS_PER_MESSAGE) return undefined;
      return { kind: 'narinfo', id: bytes.readUInt32BE(1), index, text: bytes.subarray(7) };
    }
    case KIND.EDITION:
      return parseEdition(bytes);
    default:
      return 'unknown';
  }
}

function parsePieces(bytes: Buffer): Message | undefined {
  if (bytes.length < 1 + BYTES.PREFIX + 4) return undefined;
  const count = bytes.readUInt32BE(1 + BYTES.PREFIX);
  const bitmap = bytes.subarray(1 + BYTES.PREFIX + 4);
  if (count === 0 || count > MAX_PIECES || bitmap.length !== Math.ceil(count / 8)) return undefined;
  return { kind: 'pieces', prefix: prefixAt(bytes, 1), count, bitmap };
}

function parseGet(bytes: Buffer): Message | undefined {
  if (bytes.length !== 5 + BYTES.FILE_HASH + 16) return undefined;
  const file = encodeNix32(bytes.subarray(5, 5 + BYTES.FILE_HASH)) as FileHash;
  const from = numberAt(bytes, 5 + BYTES.FILE_HASH);
  const length = numberAt(bytes, 13 + BYTES.FILE_HASH);
  if (length === 0 || !Number.isSafeInteger(from + length)) return undefined;
  return { kind: 'get', id: bytes.readUInt32BE(1), file, from, length };
}

function parseAny(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 5) / BYTES.CANDIDATE;
  if (!Number.isInteger(count) || count < 1 || count > MAX_ANY_CANDIDATES) return undefined;
  const candidates: Candidate[] = [];
  for (let at = 5; at < bytes.length; at += BYTES.CANDIDATE) {
    const from = numberAt(bytes, at + BYTES.PREFIX);
    const length = bytes.readUInt32BE(at + BYTES.PREFIX + 8);
    if (length === 0 || !Number.isSafeInteger(from + length)) return undefined;
    candidates.push({ prefix: prefixAt(bytes, at), from, length });
  }
  return { kind: 'any', id: bytes.readUInt32BE(1), candidates };
}

function parseFetching(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 1) / BYTES.FETCH;
  if (!Number.isInteger(count) || count < 1 || count > MAX_FETCHES_PER_MESSAGE) return undefined;
  const fetches: Fetch[] = [];
  for (let at = 1; at < bytes.length; at += BYTES.FETCH) {
    const heldBytes = numberAt(bytes, at + BYTES.PREFIX);
    if (!Number.isSafeInteger(heldBytes)) return undefined;
    fetches.push({ prefix: prefixAt(bytes, at), heldBytes });
  }
  return { kind: 'fetching', fetches };
}

function parseNarInfoGet(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 5) / BYTES.STORE_HASH;
  if (!Number.isInteger(count) || count < 1 || count > MAX_NARINFOS_PER_MESSAGE) return undefined;
  const hashes = Array.from({ length: count }, (_, index) => {
    const at = 5 + index * BYTES.STORE_HASH;
    return encodeNix32(bytes.subarray(at, at + BYTES.STORE_HASH)) as StoreHash;
  });
  return { kind: 'narinfoGet', id: bytes.readUInt32BE(1), hashes };
}

function parseEdition(bytes: Buffer): Message | undefined {
  const seqAt = 1 + BYTES.INFO_HASH;
  const infoHashAt = seqAt + 8;
  if (bytes.length !== infoHashAt + BYTES.INFO_HASH) return undefined;
  const seq = numberAt(bytes, seqAt);
  if (!Number.isSafeInteger(seq)) return undefined;
  const group = bytes.toString('hex', 1, seqAt) as InfoHash;
  return { kind: 'edition', group, seq, infoHash: bytes.toString('hex', infoHashAt) as InfoHash };
}

function prefixesFrom(bytes: Buffer, start: number): FilePrefix[] | undefined {
  const count = (bytes.length - start) / BYTES.PREFIX;
  if (!Number.isInteger(count) || count < 1 || count > MAX_PREFIXES_PER_MESSAGE) return undefined;
  return Array.from({ length: count }, (_, index) => prefixAt(bytes, start + index * BYTES.PREFIX));
}

function prefixAt(bytes: Buffer, at: number): FilePrefix {
  return bytes.toString('hex', at, at + BYTES.PREFIX) as FilePrefix;
}

function refusalOf(code: number | undefined): Refusal {
  for (const [reason, known] of Object.entries(REFUSALS)) if (known === code) return reason as Refusal;
  return 'failed';
}

/** Reads a number of 64 bits. NaN if it is not exact. */
function numberAt(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
