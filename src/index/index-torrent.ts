import bencode from 'bencode';
import createTorrent from 'create-torrent';
import { NarswarmError } from '../errors.ts';
import type { InfoHash } from '../nix/brands.ts';
import { infoHashOf } from '../torrent/canonical.ts';
import type { Index } from './build.ts';
import { shardFileName } from './shard.ts';

/** Name of the manifest in the torrent, in the folder of an index and below a mirror's base URL. */
export const MANIFEST_NAME = 'manifest';

/** Small, so that a shard of 40 KiB does not bring its neighbours along. */
const PIECE_LENGTH = 16 * 1024;

/** A hash map as a torrent: the manifest and the shards as files, so that any BitTorrent client can help to host it. */
export interface IndexTorrent {
  readonly infoHash: InfoHash;
  readonly torrentFile: Uint8Array;
}

/** The torrent of a hash map. The same index gives the same infohash, whoever makes it. */
export async function indexTorrent(index: Index): Promise<IndexTorrent> {
  const files = [...indexFiles(index)].map(([name, bytes]) => Object.assign(Buffer.from(bytes), { name }));
  const torrentFile = await new Promise<Uint8Array>((resolve, reject) => {
    createTorrent(
      files,
      {
        name: 'narswarm',
        pieceLength: PIECE_LENGTH,
        announceList: [],
        createdBy: 'narswarm',
        creationDate: 0,
        filterJunkFiles: false,
      },
      (error, bytes) => (error === null ? resolve(bytes) : reject(error)),
    );
  });
  const decoded = bencode.decode(torrentFile) as { info?: unknown };
  if (decoded.info === undefined)
    throw new NarswarmError('INDEX_INVALID', 'create-torrent gave a torrent without info');
  return { infoHash: infoHashOf(bencode.encode(decoded.info)), torrentFile };
}

/** The files of a hash map by name, in the order of the torrent. */
export function indexFiles(index: Index): ReadonlyMap<string, Uint8Array> {
  const files = new Map([[MANIFEST_NAME, index.manifest]]);
  for (const [prefix, bytes] of index.shards) files.set(shardFileName(prefix), bytes);
  return files;
}
