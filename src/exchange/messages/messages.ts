/**
 * The messages of the exchange, as EXCHANGE.md specifies them. Each is the body of a message of the extension
 * `nar_exchange` (BEP 10): a byte for its kind, then fields. `format-message.ts` and `parse-message.ts` convert them to
 * bytes and back.
 */
import type { FileHash, InfoHash, StoreHash } from '../../nix/brands.ts';
import { decodeNix32 } from '../../nix/nix32.ts';

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

/** Lengths of the fields of messages. */
export const BYTES = {
  /** A file's SHA-256. */
  FILE_HASH: 32,
  /** The start of it, which names a file in lists. */
  PREFIX: 8,
  STORE_HASH: 20,
  INFO_HASH: 20,
  /** A file's prefix, an offset and a length. */
  CANDIDATE: 8 + 8 + 4,
  /** A file's prefix, and the number of held bytes. */
  FETCH: 8 + 8,
  /** Before the data of a DATA message: kind and request. */
  DATA_HEAD: 5,
} as const;

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

/** A message of the side that asks. It chooses `id`, the number of a request. */
export type AskingMessage =
  | { readonly kind: 'want'; readonly batch: number; readonly prefixes: readonly FilePrefix[] }
  | { readonly kind: 'unwant'; readonly prefixes: readonly FilePrefix[] }
  | ({ readonly kind: 'get'; readonly id: number } & FileRange)
  | { readonly kind: 'any'; readonly id: number; readonly candidates: readonly Candidate[] }
  | { readonly kind: 'narinfoGet'; readonly id: number; readonly hashes: readonly StoreHash[] }
  | { readonly kind: 'cancel'; readonly id: number };

/** A message of the side that is asked. `id` is that of the request. */
export type ServingMessage =
  | { readonly kind: 'haveMap'; readonly batch: number; readonly bitmap: Uint8Array }
  | { readonly kind: 'have'; readonly prefixes: readonly FilePrefix[] }
  | { readonly kind: 'pieces'; readonly prefix: FilePrefix; readonly count: number; readonly bitmap: Uint8Array }
  | { readonly kind: 'piece'; readonly prefix: FilePrefix; readonly index: number }
  | { readonly kind: 'data'; readonly id: number; readonly bytes: Uint8Array }
  | { readonly kind: 'picked'; readonly id: number; readonly index: number }
  /** `text` is empty if there is none. */
  | { readonly kind: 'narinfo'; readonly id: number; readonly index: number; readonly text: Uint8Array }
  | { readonly kind: 'refuse'; readonly id: number; readonly reason: Refusal }
  | { readonly kind: 'fetching'; readonly fetches: readonly Fetch[] }
  | ({ readonly kind: 'edition' } & Edition);

/** A message of the exchange. Each member takes both sides over one connection. */
export type Message = AskingMessage | ServingMessage;

/** Returns true for a whole FileHash, and false for a prefix. */
export function isFileHash(file: FileHash | FilePrefix): file is FileHash {
  return file.length === 52;
}

/** The last characters of a FileHash, which have its first 10 bytes. */
const LAST_CHARACTERS = 16;

/** Returns the prefix of a FileHash. */
export function prefixOf(file: FileHash): FilePrefix {
  const start = decodeNix32(file.slice(-LAST_CHARACTERS));
  return Buffer.from(start.buffer).toString('hex', 0, BYTES.PREFIX) as FilePrefix;
}
