import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import bencode from 'bencode';
import type { InfoHash } from '../nix/brands.ts';
import { infoHashOf } from '../torrent/canonical.ts';

/** Name of the manifest in the torrent, in the folder of an index and below a mirror's base URL. */
export const MANIFEST_NAME = 'manifest';

/** Small, so that a shard of 40 KiB does not bring its neighbours along. */
export const INDEX_PIECE_LENGTH = 16 * 1024;

/** A hash map as a torrent: the manifest and the shards as files, so that any BitTorrent client can help to host it. */
export interface IndexTorrent {
  readonly infoHash: InfoHash;
  readonly torrentFile: Uint8Array;
}

/** A file of a hash map, on the disk. */
export interface IndexFile {
  /** As in the torrent: `manifest`, `shards/ab.zst`. */
  readonly name: string;
  readonly path: string;
}

/**
 * The torrent of a hash map. The same files give the same infohash, whoever makes it. One file at a time is in memory.
 *
 * @param files in the order of the torrent: the manifest, then the shards by their prefixes
 */
export async function indexTorrent(files: readonly IndexFile[]): Promise<IndexTorrent> {
  const entries: { length: number; path: string[] }[] = [];
  const pieces: Uint8Array[] = [];
  let piece = createHash('sha1');
  let pieceBytes = 0;
  for (const { name, path } of files) {
    const bytes = await readFile(path);
    entries.push({ length: bytes.length, path: name.split('/') });
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + INDEX_PIECE_LENGTH - pieceBytes);
      piece.update(part);
      at += part.length;
      pieceBytes += part.length;
      if (pieceBytes < INDEX_PIECE_LENGTH) continue;
      pieces.push(piece.digest());
      piece = createHash('sha1');
      pieceBytes = 0;
    }
  }
  if (pieceBytes > 0) pieces.push(piece.digest());
  const info = {
    files: entries,
    name: 'narswarm',
    'piece length': INDEX_PIECE_LENGTH,
    pieces: Buffer.concat(pieces),
  };
  const encoded = bencode.encode(info);
  return { infoHash: infoHashOf(encoded), torrentFile: bencode.encode({ info }) };
}
