import { readFileSync } from 'node:fs';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { torrentOfRecord } from '../../../src/index/record.ts';
import { decodeShard, type ListedShard } from '../../../src/index/format/shard.ts';
import { FIXTURES } from '../../index/fixtures.ts';
import { expecting, type FuzzTarget } from '../target.ts';

const MAX_BYTES = 256 * 1024;

/** Shards of a hash map: every second one is mutated before it is compressed, so that its records are reached. */
export function shard(): FuzzTarget {
  const bytes = readFileSync(new URL('shards/all.zst', FIXTURES));
  let count = 0;
  return {
    corpus: [bytes, zstdDecompressSync(bytes)],
    words: ['\n\n', 'Pieces: ', 'InfoHash: ', 'FileSize: 0\n', 'Compression: ', '='],
    read(input) {
      expecting(['INDEX_INVALID'], () => {
        const compressed = count++ % 2 === 0 ? input : zstdCompressSync(input);
        for (const [, record] of decodeShard(compressed as Uint8Array as ListedShard, { maxBytes: MAX_BYTES }))
          expecting(['INDEX_INVALID', 'TORRENT_INVALID'], () => void torrentOfRecord(record));
      });
    },
  };
}
