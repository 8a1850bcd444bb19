/**
 * Parses and formats the messages of the exchange, as EXCHANGE.md specifies them: without I/O. Each is the body of a
 * message of the extension `nar_exchange` (BEP 10): a byte for its kind, then fields. Integers are big-endian.
 */
import type { FileHash, InfoHash, StoreHash } from '../nix/brands.ts';
import { decodeNix32, encodeNix32 } from '../nix/nix32.ts';
import {
  MAX_ANY_CANDIDATES,
  MAX_DATA_BYTES,
  MAX_FETCHES_PER_MESSAGE,
  MAX_EXCHANGE_NARINFO_BYTES,
  MAX_NARINFOS_PER_MESSAGE,
  MAX_PIECES,
  MAX_PREFIXES_PER_MESSAGE,
} from '../wire/bounds.ts';
import { KIND as WIRE_KIND, LENGTH_BYTES } from '../wire/protocol.ts';

/** Name of the extension in the extended handshake. It ends with the version: other versions are other extensions. */
export const EXCHANGE_NAME = 'nar_exchange2';

/** Kinds of messages. */
export const KIND = {
  WANT: 1,
  HAVE_MAP: 2,
  HAVE: 3,
  UNWANT: 4,
  PIECES: 5,
  PIECE: 6,
  GET: 7,
  DATA: 8,
  REFUSE: 9,
  CANCEL: 10,
  ANY: 11,
  PICKED: 12,
  NARINFO_GET: 13,
  NARINFO: 14,
  EDITION: 15,
  FETCHING: 16,
} as const;

/** Bytes of a file's SHA-256, and of its prefix, which names the file in lists. */
const FILE_HASH_BYTES = 32;
const PREFIX_BYTES = 8;
const STORE_HASH_BYTES = 20;
const INFO_HASH_BYTES = 20;
/** A file's prefix, an offset and a length. */
const CANDIDATE_BYTES = PREFIX_BYTES + 12;
/** A file's prefix, and the number of held bytes. */
const FETCH_BYTES = PREFIX_BYTES + 8;
/** Bytes before the data of a DATA message: kind and request. */
export const DATA_HEAD_BYTES = 5;
/** Bytes before the body of each message: length, kind of BEP 3, id of the extension. */
export const FRAME_HEAD_BYTES = LENGTH_BYTES + 2;

/** The first 8 bytes of a FileHash, as 16 hex digits. */
export type FilePrefix = string & { readonly filePrefix: true };

/** Reasons for a refusal. Later versions may add some: unknown ones count as `failed`. */
export const REFUSALS = { absent: 1, withheld: 2, busy: 3, range: 4, failed: 5, cancelled: 6 } as const;
/**
 * The reason why a request is not answered, or only in part. `absent`: the file is not here, or not for others.
 * `withheld`: this peer gets nothing. `busy`: too many requests wait. `range`: the file is shorter. `failed`: it could
 * not be read. `cancelled`: the request was cancelled.
 */
export type Refusal = keyof typeof REFUSALS;

/** A range of a file: bytes `[from, from + length)`. */
export interface FileRange {
  readonly file: FileHash;
  readonly from: number;
  readonly length: number;
}

/** A range of a file that is named by its prefix. */
export interface Candidate {
  readonly prefix: FilePrefix;
  readonly from: number;
  readonly length: number;
}

/** An edition of the hash map that the members of a group follow. */
export interface Edition {
  readonly group: InfoHash;
  /** The seq of its manifest. */
  readonly seq: number;
  /** The infohash of its torrent. */
  readonly infoHash: InfoHash;
}

/** A file that is being fetched from an upstream. */
export interface Fetch {
  readonly prefix: FilePrefix;
  readonly heldBytes: number;
}

/** A message of the exchange. `id` is the number of a request, chosen by the side that asks. */
export type Message =
  | { readonly kind: 'want'; readonly batch: number; readonly prefixes: readonly FilePrefix[] }
  | { readonly kind: 'haveMap'; readonly batch: number; readonly bitmap: Uint8Array }
  | { readonly kind: 'have' | 'unwant'; readonly prefixes: readonly FilePrefix[] }
  | { readonly kind: 'pieces'; readonly prefix: FilePrefix; readonly count: number; readonly bitmap: Uint8Array }
  | { readonly kind: 'piece'; readonly prefix: FilePrefix; readonly index: number }
  | ({ readonly kind: 'get'; readonly id: number } & FileRange)
  | { readonly kind: 'data'; readonly id: number; readonly bytes: Uint8Array }
  | { readonly kind: 'refuse'; readonly id: number; readonly reason: Refusal }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'any'; readonly id: number; readonly candidates: readonly Candidate[] }
  | { readonly kind: 'picked'; readonly id: number; readonly index: number }
  | { readonly kind: 'fetching'; readonly fetches: readonly Fetch[] }
  | { readonly kind: 'narinfoGet'; readonly id: number; readonly hashes: readonly StoreHash[] }
  /** `text` is empty if there is none. */
  | { readonly kind: 'narinfo'; readonly id: number; readonly index: number; readonly text: Uint8Array }
  | ({ readonly kind: 'edition' } & Edition);

export function prefixOf(file: FileHash): FilePrefix {
  return hexOf(Buffer.from(decodeNix32(file).buffer), 0);
}

/** Formats a whole message, with its frame, for a peer that uses `extensionId` for the exchange. */
export function formatMessage(message: Message, extensionId: number): Buffer {
  const body = formatBody(message);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + body.length);
  writeFrameHead(frame, body.length, extensionId);
  frame.set(body, FRAME_HEAD_BYTES);
  return frame;
}

/** Formats a DATA message without its bytes, so that they need not be copied. */
export function formatDataHead(id: number, lengthBytes: number, extensionId: number): Buffer {
  const head = Buffer.allocUnsafe(FRAME_HEAD_BYTES + DATA_HEAD_BYTES);
  writeFrameHead(head, DATA_HEAD_BYTES + lengthBytes, extensionId);
  head[FRAME_HEAD_BYTES] = KIND.DATA;
  head.writeUInt32BE(id, FRAME_HEAD_BYTES + 1);
  return head;
}

function writeFrameHead(frame: Buffer, bodyBytes: number, extensionId: number): void {
  frame.writeUInt32BE(bodyBytes + 2, 0);
  frame[LENGTH_BYTES] = WIRE_KIND.EXTENDED;
  frame[LENGTH_BYTES + 1] = extensionId;
}

/** Formats the body of a message: its kind and its fields. */
export function formatBody(message: Message): Buffer {
  switch (message.kind) {
    case 'want':
      return Buffer.concat([headOf(KIND.WANT, message.batch), ...message.prefixes.map(bytesOfPrefix)]);
    case 'haveMap':
      return Buffer.concat([headOf(KIND.HAVE_MAP, message.batch), message.bitmap]);
    case 'have':
      return Buffer.concat([Buffer.of(KIND.HAVE), ...message.prefixes.map(bytesOfPrefix)]);
    case 'unwant':
      return Buffer.concat([Buffer.of(KIND.UNWANT), ...message.prefixes.map(bytesOfPrefix)]);
    case 'pieces':
      return Buffer.concat([
        Buffer.of(KIND.PIECES),
        bytesOfPrefix(message.prefix),
        uint32(message.count),
        message.bitmap,
      ]);
    case 'piece':
      return Buffer.concat([Buffer.of(KIND.PIECE), bytesOfPrefix(message.prefix), uint32(message.index)]);
    case 'get':
      return Buffer.concat([
        headOf(KIND.GET, message.id),
        decodeNix32(message.file),
        uint64(message.from),
        uint64(message.length),
      ]);
    case 'data':
      return Buffer.concat([headOf(KIND.DATA, message.id), message.bytes]);
    case 'refuse':
      return Buffer.concat([headOf(KIND.REFUSE, message.id), Buffer.of(REFUSALS[message.reason])]);
    case 'cancel':
      return headOf(KIND.CANCEL, message.id);
    case 'any':
      return Buffer.concat([headOf(KIND.ANY, message.id), ...message.candidates.map(bytesOfCandidate)]);
    case 'picked':
      return Buffer.concat([headOf(KIND.PICKED, message.id), uint16(message.index)]);
    case 'fetching':
      return Buffer.concat([Buffer.of(KIND.FETCHING), ...message.fetches.map(bytesOfFetch)]);
    case 'narinfoGet':
      return Buffer.concat([headOf(KIND.NARINFO_GET, message.id), ...message.hashes.map(decodeNix32)]);
    case 'narinfo':
      return Buffer.concat([headOf(KIND.NARINFO, message.id), uint16(message.index), message.text]);
    default:
      return Buffer.concat([
        Buffer.of(KIND.EDITION),
        Buffer.from(message.group, 'hex'),
        uint64(message.seq),
        Buffer.from(message.infoHash, 'hex'),
      ]);
  }
}

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
      if (rest !== PREFIX_BYTES + 4) return undefined;
      const index = bytes.readUInt32BE(1 + PREFIX_BYTES);
      return index < MAX_PIECES ? { kind: 'piece', prefix: hexOf(bytes, 1), index } : undefined;
    }
    case KIND.GET:
      return parseGet(bytes);
    case KIND.DATA:
      if (rest < 5 || rest > 4 + MAX_DATA_BYTES) return undefined;
      return { kind: 'data', id: bytes.readUInt32BE(1), bytes: bytes.subarray(DATA_HEAD_BYTES) };
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
  if (bytes.length < 1 + PREFIX_BYTES + 4) return undefined;
  const count = bytes.readUInt32BE(1 + PREFIX_BYTES);
  const bitmap = bytes.subarray(1 + PREFIX_BYTES + 4);
  if (count === 0 || count > MAX_PIECES || bitmap.length !== Math.ceil(count / 8)) return undefined;
  return { kind: 'pieces', prefix: hexOf(bytes, 1), count, bitmap };
}

function parseGet(bytes: Buffer): Message | undefined {
  if (bytes.length !== 5 + FILE_HASH_BYTES + 16) return undefined;
  const file = encodeNix32(bytes.subarray(5, 5 + FILE_HASH_BYTES)) as FileHash;
  const from = numberAt(bytes, 5 + FILE_HASH_BYTES);
  const length = numberAt(bytes, 13 + FILE_HASH_BYTES);
  if (length === 0 || !Number.isSafeInteger(from + length)) return undefined;
  return { kind: 'get', id: bytes.readUInt32BE(1), file, from, length };
}

function parseAny(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 5) / CANDIDATE_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > MAX_ANY_CANDIDATES) return undefined;
  const candidates: Candidate[] = [];
  for (let at = 5; at < bytes.length; at += CANDIDATE_BYTES) {
    const from = numberAt(bytes, at + PREFIX_BYTES);
    const length = bytes.readUInt32BE(at + PREFIX_BYTES + 8);
    if (length === 0 || !Number.isSafeInteger(from + length)) return undefined;
    candidates.push({ prefix: hexOf(bytes, at), from, length });
  }
  return { kind: 'any', id: bytes.readUInt32BE(1), candidates };
}

function parseFetching(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 1) / FETCH_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > MAX_FETCHES_PER_MESSAGE) return undefined;
  const fetches: Fetch[] = [];
  for (let at = 1; at < bytes.length; at += FETCH_BYTES) {
    const heldBytes = numberAt(bytes, at + PREFIX_BYTES);
    if (!Number.isSafeInteger(heldBytes)) return undefined;
    fetches.push({ prefix: hexOf(bytes, at), heldBytes });
  }
  return { kind: 'fetching', fetches };
}

function parseNarInfoGet(bytes: Buffer): Message | undefined {
  const count = (bytes.length - 5) / STORE_HASH_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > MAX_NARINFOS_PER_MESSAGE) return undefined;
  const hashes = Array.from({ length: count }, (_, index) => {
    const at = 5 + index * STORE_HASH_BYTES;
    return encodeNix32(bytes.subarray(at, at + STORE_HASH_BYTES)) as StoreHash;
  });
  return { kind: 'narinfoGet', id: bytes.readUInt32BE(1), hashes };
}

function parseEdition(bytes: Buffer): Message | undefined {
  const seqAt = 1 + INFO_HASH_BYTES;
  const infoHashAt = seqAt + 8;
  if (bytes.length !== infoHashAt + INFO_HASH_BYTES) return undefined;
  const seq = numberAt(bytes, seqAt);
  if (!Number.isSafeInteger(seq)) return undefined;
  const group = bytes.toString('hex', 1, seqAt) as InfoHash;
  return { kind: 'edition', group, seq, infoHash: bytes.toString('hex', infoHashAt) as InfoHash };
}

function prefixesFrom(bytes: Buffer, start: number): FilePrefix[] | undefined {
  const count = (bytes.length - start) / PREFIX_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > MAX_PREFIXES_PER_MESSAGE) return undefined;
  return Array.from({ length: count }, (_, index) => hexOf(bytes, start + index * PREFIX_BYTES));
}

function hexOf(bytes: Buffer, at: number): FilePrefix {
  return bytes.toString('hex', at, at + PREFIX_BYTES) as FilePrefix;
}

function bytesOfPrefix(prefix: FilePrefix): Buffer {
  return Buffer.from(prefix, 'hex');
}

function bytesOfCandidate({ prefix, from, length }: Candidate): Buffer {
  return Buffer.concat([bytesOfPrefix(prefix), uint64(from), uint32(length)]);
}

function bytesOfFetch({ prefix, heldBytes }: Fetch): Buffer {
  return Buffer.concat([bytesOfPrefix(prefix), uint64(heldBytes)]);
}

function refusalOf(code: number | undefined): Refusal {
  for (const [reason, known] of Object.entries(REFUSALS)) if (known === code) return reason as Refusal;
  return 'failed';
}

function headOf(kind: number, id: number): Buffer {
  const head = Buffer.alloc(5, kind);
  head.writeUInt32BE(id, 1);
  return head;
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Reads a number of 64 bits. NaN if it is not exact. */
function numberAt(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
