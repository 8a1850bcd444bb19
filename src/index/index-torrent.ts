import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import bencode from 'bencode';
import createTorrent from 'create-torrent';
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
 * The torrent of a hash map. The same files give the same infohash, whoever makes it. A file is opened once it is that
 * file's turn, and read in chunks.
 *
 * @param files in the order of the torrent: the manifest, then the shards by their prefixes
 */
export async function indexTorrent(files: readonly IndexFile[]): Promise<IndexTorrent> {
  const named = files.map(({ name, path }) => Object.assign(Readable.from(chunksOf(path)), { name }));
  const made = await new Promise<Uint8Array>((resolve, reject) => {
    createTorrent(
      named,
      { name: 'narswarm', pieceLength: INDEX_PIECE_LENGTH, announceList: [], filterJunkFiles: false },
      (error, bytes) => (error === null ? resolve(bytes) : reject(error)),
    );
  });
  // The rest of it says when it was made and by which program.
  const { info } = bencode.decode(made) as { readonly info: object };
  const encoded = bencode.encode(info);
  return { infoHash: infoHashOf(encoded), torrentFile: bencode.encode({ info }) };
}

async function* chunksOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path);
}
