import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import bencode from 'bencode';
import createTorrent from 'create-torrent';
import type { InfoHash } from '../../nix/brands.ts';
import { infoHashOf } from '../../torrent/canonical.ts';

/** Name of the manifest in the torrent, in the folder of a hash map and on a mirror. */
export const MANIFEST_NAME = 'manifest';

/** Small pieces: fetching a shard of 40 KiB does not fetch its neighbours. */
export const INDEX_PIECE_LENGTH = 16 * 1024;

/** A hash map as a torrent, with the manifest and the shards as files. Any BitTorrent client can help to host it. */
export interface IndexTorrent {
  readonly infoHash: InfoHash;
  readonly torrentFile: Uint8Array;
}

/** A file of a hash map, on the disk. */
export interface IndexFile {
  /** The name in the torrent: `manifest`, `shards/ab.zst`. */
  readonly name: string;
  readonly path: string;
}

/**
 * Makes the torrent of a hash map. The same files give the same infohash for everybody. Opens one file at a time and
 * reads it in chunks.
 *
 * Hashes all files of each edition. The manifest is the first file, and its length changes: so all pieces begin elsewhere
 * than in the edition before, and none of its hashes can be used again. A million records take 3 s of a processor.
 *
 * @param files in the order of the torrent: the manifest, then the shards by prefix
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
  // The rest records when and by which program it was made.
  const { info } = bencode.decode(made) as { readonly info: object };
  const encoded = bencode.encode(info);
  return { infoHash: infoHashOf(encoded), torrentFile: bencode.encode({ info }) };
}

async function* chunksOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path);
}
