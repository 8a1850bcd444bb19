/**
 * The canonical torrent of a NAR: a pure function of its bytes and its compression, so that whoever makes it gets the
 * same infohash. It is a single-file torrent of version 1 (BEP 3) whose `info` has `length`, `name`, `piece length`
 * and `pieces`, and nothing else.
 */
import { createHash } from 'node:crypto';
import bencode from 'bencode';
import { NarswarmError } from '../errors.ts';
import type { FileHash, InfoHash } from '../nix/brands.ts';
import { quote } from '../nix/quote.ts';

/** Version of {@link pieceLengthOf}. Whoever changes that function raises this: every infohash changes with it. */
export const PIECE_LENGTH_VERSION = 1;

/** Bytes of a SHA-1 digest: each piece has one in `pieces` (BEP 3). */
export const PIECE_HASH_BYTES = 20;

const MIN_PIECE_LENGTH = 16 * 1024;
const MAX_PIECE_LENGTH = 1024 * 1024;
const EXTENSIONS: ReadonlyMap<string, string> = new Map([
  ['none', ''],
  ['bzip2', 'bz2'],
  ['gzip', 'gz'],
  ['zstd', 'zst'],
]);

/** A NAR as a torrent. All of `info` follows from these fields, so no metadata exchange (BEP 9) is needed. */
export interface NarTorrent {
  /** SHA-1 of the bencoded `info`. */
  readonly infoHash: InfoHash;
  /** `<fileHash>.nar.<extension>`, or `<fileHash>.nar` of a NAR that is not compressed. */
  readonly name: string;
  /** Bytes of the NAR file as it is stored and sent; above 0. */
  readonly sizeBytes: number;
  /** Bytes of every piece but the last, which may be shorter. */
  readonly pieceLength: number;
  /** The SHA-1 digests of the pieces one after another, {@link PIECE_HASH_BYTES} each. */
  readonly pieces: Uint8Array;
  readonly fileHash: FileHash;
}

/** `info` as BEP 3 has it: these four keys, in the order of their bytes. */
export interface TorrentInfo {
  readonly length: number;
  readonly name: string;
  readonly 'piece length': number;
  readonly pieces: Uint8Array;
}

/**
 * The piece length of a NAR file: the smallest power of two that holds it whole, but at least 16 KiB (one block of
 * the wire protocol) and at most 1 MiB (a lying peer costs no more than that). So a NAR of up to 1 MiB is one piece.
 */
export function pieceLengthOf(sizeBytes: number): number {
  let pieceLength = MIN_PIECE_LENGTH;
  while (pieceLength < sizeBytes && pieceLength < MAX_PIECE_LENGTH) pieceLength *= 2;
  return pieceLength;
}

/**
 * Makes the torrent of a NAR file whose pieces are hashed already.
 *
 * @param parts.extension as {@link extensionOf} gives it
 * @param parts.sizeBytes bytes of the NAR file (FileSize, not NarSize)
 * @throws NarswarmError `INDEX_INVALID` if no file has that size, or `pieces` does not hold one digest a piece.
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

/** The `info` dictionary of a torrent. */
export function infoOf(torrent: Omit<NarTorrent, 'infoHash' | 'fileHash'>): TorrentInfo {
  const { name, sizeBytes, pieceLength, pieces } = torrent;
  return { length: sizeBytes, name, 'piece length': pieceLength, pieces };
}

/** `info` in its one bencoding, which the infohash is taken of and which peers exchange as metadata (BEP 9). */
export function encodeInfo(torrent: Omit<NarTorrent, 'infoHash' | 'fileHash'>): Uint8Array {
  return bencode.encode(infoOf(torrent));
}

/** A `.torrent` file with `info` alone: no trackers, no date, no author. Any BitTorrent client opens it. */
export function torrentFile(torrent: NarTorrent): Uint8Array {
  return bencode.encode({ info: infoOf(torrent) });
}

/**
 * A magnet link (BEP 9) with the name, the size and, as `x.pe`, the peers to ask first.
 *
 * @param peers `host:port` each, an IPv6 address in brackets
 */
export function magnetOf(torrent: NarTorrent, peers: readonly string[] = []): string {
  const hints = peers.map((peer) => `&x.pe=${encodePeer(peer)}`).join('');
  return `magnet:?xt=urn:btih:${torrent.infoHash}&dn=${torrent.name}&xl=${torrent.sizeBytes}${hints}`;
}

/**
 * What the name of a NAR file ends with, after `.nar.`, for a narinfo's `Compression`: Nix's own endings, the empty
 * string for `none`, else the name of the compression itself.
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

/** The SHA-1 that names a swarm: of a bencoded `info` (BEP 3), or of other bytes that stand for one. */
export function infoHashOf(bytes: Uint8Array): InfoHash {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the brand is given here
  return createHash('sha1').update(bytes).digest('hex') as InfoHash;
}

/** Colons and brackets stay: BEP 9 writes them bare, and a query string may hold them. */
function encodePeer(peer: string): string {
  return encodeURIComponent(peer).replace(/%(?:3A|5B|5D)/g, decodeURIComponent);
}

function invalid(message: string): NarswarmError {
  return new NarswarmError('INDEX_INVALID', message);
}
