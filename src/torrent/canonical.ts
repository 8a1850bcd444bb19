/**
 * The canonical torrent of a NAR: a pure function of its bytes and its compression, so that everybody gets the same
 * infohash. It is a single-file torrent of version 1 (BEP 3). Its `info` has `length`, `name`, `piece length` and
 * `pieces`, and nothing else.
 */
import { hash } from 'node:crypto';
import bencode from 'bencode';
import { NarswarmError } from '../errors.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { quote } from '../nix/quote.ts';

/** Version of {@link pieceLengthOf}. Raise it with every change of that function, which changes every infohash. */
export const PIECE_LENGTH_VERSION = 2;

/** Bytes of a SHA-1 digest: `pieces` has one per piece (BEP 3). */
export const PIECE_HASH_BYTES = 20;

const MIN_PIECE_LENGTH = 16 * 1024;
/** Length of all pieces but the last of a longer file. A shorter file is one piece. */
export const MAX_PIECE_LENGTH = 256 * 1024;
const EXTENSIONS: ReadonlyMap<string, string> = new Map([
  ['none', ''],
  ['bzip2', 'bz2'],
  ['gzip', 'gz'],
  ['zstd', 'zst'],
]);

/** A NAR as a torrent. These fields determine all of `info`, so no metadata exchange (BEP 9) is needed. */
export interface NarTorrent {
  /** SHA-1 of the bencoded `info`. */
  readonly infoHash: InfoHash;
  /** `<fileHash>.nar.<extension>`, or `<fileHash>.nar` for an uncompressed NAR. */
  readonly name: string;
  /** Bytes of the NAR file as stored and sent, above 0. */
  readonly sizeBytes: number;
  /** Bytes of every piece; the last one may be shorter. */
  readonly pieceLength: number;
  /** SHA-1 digests of the pieces, in order, {@link PIECE_HASH_BYTES} each. */
  readonly pieces: Uint8Array;
  readonly fileHash: FileHash;
}

/** `info` as in BEP 3: these four keys, in byte order. */
export interface TorrentInfo {
  readonly length: number;
  readonly name: string;
  readonly 'piece length': number;
  readonly pieces: Uint8Array;
}

/**
 * Returns the piece length for a NAR file: the smallest power of two that holds the file, at least 16 KiB (one block of
 * the wire protocol) and at most 256 KiB. So a NAR of up to 256 KiB is one piece. A piece is passed on once it is
 * whole, so a crowd would get larger pieces later.
 */
export function pieceLengthOf(sizeBytes: number): number {
  let pieceLength = MIN_PIECE_LENGTH;
  while (pieceLength < sizeBytes && pieceLength < MAX_PIECE_LENGTH) pieceLength *= 2;
  return pieceLength;
}

/**
 * Makes the torrent of a NAR file from the hashes of its pieces.
 *
 * @param parts.extension as {@link extensionOf} returns it
 * @param parts.sizeBytes bytes of the NAR file (FileSize, not NarSize)
 * @throws NarswarmError `INDEX_INVALID` if no file has that size, or if `pieces` does not have one digest per piece.
 */
export function narTorrent(parts: {
  readonly fileHash: FileHash;
  readonly extension: string;
  readonly sizeBytes: number;
  readonly pieces: Uint8Array;
}): NarTorrent {
  const { fileHash, extension, sizeBytes, pieces } = parts;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw invalid(`the NAR ${fileHash} cannot have ${sizeBytes} bytes`);
  }
  const pieceLength = pieceLengthOf(sizeBytes);
  const expectedBytes = Math.ceil(sizeBytes / pieceLength) * PIECE_HASH_BYTES;
  if (pieces.length !== expectedBytes) {
    throw invalid(
      `the NAR ${fileHash} of ${sizeBytes} bytes needs ${expectedBytes} bytes of piece hashes, not ${pieces.length}`,
    );
  }
  const name = `${fileHash}.nar${extension === '' ? '' : `.${extension}`}`;
  const infoHash = infoHashOf(encodeInfo({ name, sizeBytes, pieceLength, pieces }));
  return { infoHash, name, sizeBytes, pieceLength, pieces, fileHash };
}

/** Returns the `info` dictionary of a torrent. */
export function infoOf(torrent: Omit<NarTorrent, 'infoHash' | 'fileHash'>): TorrentInfo {
  const { name, sizeBytes, pieceLength, pieces } = torrent;
  return { length: sizeBytes, name, 'piece length': pieceLength, pieces };
}

/**
 * Encodes `info` in its only bencoding. The infohash is computed over it, and peers exchange it as metadata (BEP 9).
 * Written out, since a fetch encodes one for each NAR: a library takes six times as long.
 */
export function encodeInfo(torrent: Omit<NarTorrent, 'infoHash' | 'fileHash'>): Uint8Array {
  const { name, sizeBytes, pieceLength, pieces } = torrent;
  const head = `d6:lengthi${sizeBytes}e4:name${name.length}:${name}12:piece lengthi${pieceLength}e6:pieces${pieces.length}:`;
  return Buffer.concat([Buffer.from(head), pieces, Buffer.from('e')]);
}

/** Makes a `.torrent` file that has only `info`: no trackers, no date, no author. Any BitTorrent client opens it. */
export function torrentFile(torrent: NarTorrent): Uint8Array {
  return bencode.encode({ info: infoOf(torrent) });
}

/**
 * Makes a magnet link (BEP 9) with the name, the size and, as `x.pe`, the first peers to ask.
 *
 * @param peers `host:port` each, an IPv6 address in brackets
 */
export function magnetOf(torrent: NarTorrent, peers: readonly string[] = []): string {
  const hints = peers.map((peer) => `&x.pe=${encodePeer(peer)}`).join('');
  return `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${torrent.name}&xl=${torrent.sizeBytes}${hints}`;
}

/**
 * Returns the file ending after `.nar.` for a narinfo's `Compression`: Nix's own endings, the empty string for `none`,
 * otherwise the name of the compression.
 *
 * @throws NarswarmError `INDEX_INVALID` for a compression that cannot be part of a file name.
 */
export function extensionOf(compression: string): string {
  const extension = EXTENSIONS.get(compression) ?? compression;
  if (compression !== 'none' && !/^[a-z0-9]{1,16}$/.test(extension)) {
    throw invalid(`${quote(compression)} is not a compression: expected 1 to 16 of the characters a-z 0-9`);
  }
  return extension;
}

/** Computes the SHA-1 that names a swarm, over a bencoded `info` (BEP 3) or over other bytes that take its place. */
export function infoHashOf(bytes: Uint8Array): InfoHash {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the brand is given here
  return hash('sha1', bytes, 'hex') as InfoHash;
}

/** Escapes a peer, except colons and brackets. BEP 9 writes them unescaped, and a query string may contain them. */
function encodePeer(peer: string): string {
  return encodeURIComponent(peer).replace(/%(?:3A|5B|5D)/g, decodeURIComponent);
}

function invalid(message: string): NarswarmError {
  return new NarswarmError('INDEX_INVALID', message);
}
