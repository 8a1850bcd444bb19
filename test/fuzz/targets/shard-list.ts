import { zstdCompressSync } from 'node:zlib';
import { decodePrefixList, decodeRootList, encodeRootList } from '../../../src/index/format/shard-list.ts';
import type { ListedShard } from '../../../src/index/format/shard.ts';
import { expecting, type FuzzTarget } from '../target.ts';

const SHA256 = `1${'0'.repeat(51)}`;

/** Lists of the shards of a hash map, of a named root and of a prefix. */
export function shardList(): FuzzTarget {
  const list = { prefix: 'a', sizeBytes: 1, sha256: SHA256 };
  return {
    corpus: [
      Buffer.from(`000000 zzzzzz 65324 ${SHA256} *\n0a1b2c 1xyz09 7 ${SHA256} _w ${SHA256}:_w ${SHA256}:*\n`),
      Buffer.from(`aa 65324 ${SHA256}\nab 7 ${SHA256}\n`),
    ],
    words: ['*', ' ', '\n', ':', '=', SHA256, '16777216'],
    read(input) {
      const bytes = zstdCompressSync(input) as Uint8Array as ListedShard;
      expecting(['INDEX_INVALID'], () => void encodeRootList(decodeRootList(bytes)));
      expecting(['INDEX_INVALID'], () => void decodePrefixList(bytes, list, 2));
    },
  };
}
