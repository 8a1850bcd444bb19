import { encodeInfo, infoOf, PIECE_HASH_BYTES, type NarTorrent } from '../torrent/canonical.ts';

/** Returns the object that parse-torrent would make of the .torrent file, without parsing. */
export function parsedTorrent(torrent: NarTorrent): object {
  const { infoHash, name, sizeBytes, pieceLength, pieces } = torrent;
  const hashes: string[] = [];
  for (let at = 0; at < pieces.length; at += PIECE_HASH_BYTES) {
    hashes.push(Buffer.from(pieces.buffer, pieces.byteOffset + at, PIECE_HASH_BYTES).toString('hex'));
  }
  const info = infoOf(torrent);
  return {
    infoHash,
    info: { ...info, name: Buffer.from(info.name) },
    infoBuffer: encodeInfo(torrent),
    name,
    length: sizeBytes,
    pieceLength,
    lastPieceLength: sizeBytes % pieceLength || pieceLength,
    pieces: hashes,
    files: [{ path: name, name, length: sizeBytes, offset: 0 }],
    announce: [],
    urlList: [],
  };
}
