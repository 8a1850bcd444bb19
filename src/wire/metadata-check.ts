import { hash } from 'node:crypto';
import bencode from 'bencode';
import { endOfValue, isDictionary, type Fields } from '../torrent/bencoding.ts';
import { PIECE_HASH_BYTES } from '../torrent/canonical.ts';
import { MAX_METADATA_BYTES, MAX_READ_BYTES, MAX_READ_PIECE_BYTES, MAX_READ_PIECES } from './bounds.ts';

/**
 * Returns true if a stranger's metadata (BEP 9) matches its infohash and describes a torrent that can be read. Decodes
 * only bytes with the right SHA-1. Does not trust a torrent's size, even if a publisher has signed it.
 *
 * @param infoHash in hex
 */
export function isSoundMetadata(metadata: Buffer, infoHash: string): boolean {
  if (metadata.length > MAX_METADATA_BYTES || hash('sha1', metadata, 'hex') !== infoHash) return false;
  try {
    if (endOfValue(metadata, 0) !== metadata.length) return false;
    const info: unknown = bencode.decode(metadata);
    // WebTorrent encodes it again, and takes a dictionary named `info` in it for the whole.
    if (!isDictionary(info) || 'info' in info || !metadata.equals(bencode.encode(info))) return false;
    return isPieceLength(info['piece length']) && isSmall(info);
  } catch {
    return false;
  }
}

/** Checks a piece length. WebTorrent allocates a piece of the length that the torrent's author chose. */
function isPieceLength(bytes: unknown): boolean {
  return Number.isInteger(bytes) && Number(bytes) > 0 && Number(bytes) <= MAX_READ_PIECE_BYTES;
}

function isSmall({ length, files, pieces }: Fields): boolean {
  const list = Array.isArray(files) ? (files as unknown[]) : [{ length }];
  const totalBytes = list.reduce<number>((sum, file) => sum + lengthOf(file), 0);
  const hasFewPieces = pieces instanceof Uint8Array && pieces.length <= MAX_READ_PIECES * PIECE_HASH_BYTES;
  return hasFewPieces && totalBytes <= MAX_READ_BYTES; // false if it is not a number
}

function lengthOf(file: unknown): number {
  const length = isDictionary(file) ? file['length'] : undefined;
  return Number.isInteger(length) && Number(length) >= 0 ? Number(length) : Number.NaN;
}
