import type Torrent from 'webtorrent/lib/torrent.js';
import type { TorrentShape } from '../wire/message-guard.ts';

/** Gives the shape of a torrent, once its metadata is known: that of a swarm that is read by its infohash comes later. */
export function shapeOf(torrent: Torrent): () => TorrentShape | undefined {
  let shape: TorrentShape | undefined;
  return () => {
    if (shape === undefined && !torrent.destroyed && torrent.metadata && torrent.pieces.length > 0) {
      shape = { pieces: torrent.pieces.length, pieceLength: torrent.pieceLength, lengthBytes: torrent.length };
    }
    return shape;
  };
}
