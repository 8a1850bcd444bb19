/** Reads as much of a NAR file as Nix does, and no more. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { failsWith } from '../../nix/fixtures.ts';
import { narHashOf } from '../../../src/nix/hash.ts';
import { hashContents } from '../../../src/store/hashing/nar-contents.ts';

const NAR = randomBytes(3_000_000);
const EXPECTED = narHashOf(createHash('sha256').update(NAR).digest());
/** A frame of zstd with four bytes that readers must skip. */
const SKIPPABLE = Buffer.from('5a2a4d180400000061626364', 'hex');
let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'narswarm-nar-hash-'));
});
after(() => rm(dir, { recursive: true }));

async function contentsOf(label: string, ...parts: readonly Uint8Array[]) {
  const path = join(dir, 'file.nar');
  await writeFile(path, Buffer.concat(parts));
  return hashContents(path, label, NAR.length);
}

test('reads a zstd file of several frames, as pzstd makes it, to its end', async () => {
  const frames = [NAR.subarray(0, 10), NAR.subarray(10, 2_000_000), NAR.subarray(2_000_000)].map((part) =>
    zstdCompressSync(part),
  );
  const found = await contentsOf('zstd', SKIPPABLE, ...frames.flatMap((frame) => [frame, SKIPPABLE]));
  assert.deepEqual(found, { narHash: EXPECTED, narSize: NAR.length, compression: 'zstd' });
  await assert.rejects(contentsOf('zstd', ...frames, Buffer.from('garbage!')), failsWith('HASH_MISMATCH'));
  const tiny = Array.from({ length: 2_000 }, () => zstdCompressSync(Buffer.alloc(1)));
  await assert.rejects(contentsOf('zstd', ...tiny), failsWith('HASH_MISMATCH', /too many frames/));
});

test('ignores bytes after the NAR, as Nix does, and does not read them without end', async () => {
  for (const label of ['none', 'gzip', 'zstd'] as const) {
    const compress = { none: (bytes: Buffer) => bytes, gzip: gzipSync, zstd: zstdCompressSync }[label];
    const padded = await contentsOf(label, compress(Buffer.concat([NAR, Buffer.alloc(4_096, 1)])));
    assert.deepEqual(padded, { narHash: EXPECTED, narSize: NAR.length, compression: label });
    const endless = compress(Buffer.concat([NAR, Buffer.alloc(1_000_000, 1)]));
    await assert.rejects(contentsOf(label, endless), failsWith('HASH_MISMATCH', /more than the 3000000 bytes/));
  }
});
