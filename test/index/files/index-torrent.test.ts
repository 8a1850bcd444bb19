/** The torrent of a hash map. Every follower makes it, and its infohash must be the one in the publisher's pointer. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import bencode from 'bencode';
import { indexTorrent } from '../../../src/index/files/index-torrent.ts';
import { tempDir } from '../../store/store-fixture.ts';

/** The infohash that create-torrent 6.1.3 computes for the same files with pieces of 16 KiB and the name `narswarm`. */
const GOLDEN = '30725fe825033a208d4b2af6a432a063f7e68308';

const FILES = {
  manifest: Buffer.alloc(5_000, 'm'),
  'shards/aa.zst': Buffer.alloc(40_000, 'a'), // ends inside a piece
  'shards/ab.zst': Buffer.alloc(16_384, 'b'),
  'shards/ac.zst': Buffer.alloc(3, 'c'),
};

test('has the infohash that other tools compute for the same files', async (t) => {
  const dir = await tempDir(t);
  await mkdir(join(dir, 'shards'));
  const files = Object.entries(FILES).map(([name, bytes]) => ({ name, bytes, path: join(dir, name) }));
  for (const { path, bytes } of files) await writeFile(path, bytes);
  const { infoHash, torrentFile } = await indexTorrent(files);
  assert.equal(infoHash, GOLDEN);
  const { info } = bencode.decode(torrentFile) as { info: { files: { length: number }[]; pieces: Uint8Array } };
  assert.deepEqual(
    info.files.map(({ length }) => length),
    [5_000, 40_000, 16_384, 3],
  );
  assert.equal(info.pieces.length, 20 * Math.ceil(61_387 / 16_384));
});
