import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { FileHash } from '../../src/nix/brands.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { ArrivingDecoder } from '../../src/store/arriving-decoder.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';
import { tempDir } from './store-fixture.ts';

/** Size of the contents. They are random, so xz cannot make them smaller. */
const SIZE_BYTES = 1_500_000;
const PIECE = 256 * 1024;

interface Scene {
  readonly contents: Buffer;
  readonly xz: Buffer;
  readonly fileHash: FileHash;
  readonly partial: PartialNar;
  readonly target: string;
  readonly out: string;
  readonly decoder: ArrivingDecoder;
  readonly piece: (index: number) => Buffer;
}

const xzOf = (bytes: Buffer): Buffer => spawnSync('xz', ['-c', '-0'], { input: bytes, maxBuffer: 1e9 }).stdout;
const hashOf = (bytes: Buffer): FileHash => fileHashOf(createHash('sha256').update(bytes).digest());

interface SceneOptions {
  readonly contents?: Buffer;
  readonly maxBytes?: number;
  readonly pieceless?: boolean;
  /** Bytes of an earlier run. */
  readonly before?: Buffer;
}

async function scene(t: TestContext, options: SceneOptions = {}): Promise<Scene> {
  const { contents = randomBytes(SIZE_BYTES), maxBytes = contents.length, pieceless = false, before } = options;
  const dir = await tempDir(t);
  const xz = xzOf(contents);
  const torrent = torrentOf(xz);
  const fileHash = hashOf(xz);
  if (before !== undefined) await writeFile(join(dir, 'partial'), before);
  const expected = { sizeBytes: xz.length, fileHash, torrent: pieceless ? undefined : torrent };
  const partial = await PartialNar.open(join(dir, 'partial'), expected);
  const out = join(dir, 'out');
  const decoder = new ArrivingDecoder(partial, out, maxBytes);
  t.after(async () => {
    await decoder[Symbol.asyncDispose]();
    await partial.close();
  });
  const piece = (index: number): Buffer => xz.subarray(index * torrent.pieceLength, (index + 1) * torrent.pieceLength);
  return { contents, xz, fileHash, partial, target: join(dir, 'target'), out, decoder, piece };
}

async function catchUp(decoder: ArrivingDecoder): Promise<void> {
  while (decoder.hasWork) await decoder.takeTurn();
}

/** Lets a script run instead of xz. */
async function fakeXz(t: TestContext, script: string): Promise<void> {
  const bin = join(await tempDir(t), 'bin');
  const path = process.env['PATH'];
  await mkdir(bin);
  await writeFile(join(bin, 'xz'), `#!/bin/sh\n${script}\n`);
  await chmod(join(bin, 'xz'), 0o755);
  process.env['PATH'] = `${bin}:${path}`;
  t.after(() => (process.env['PATH'] = path));
}

test('decodes a file while it arrives from its front', async (t) => {
  const { contents, xz, fileHash, partial, target, out, decoder } = await scene(t, { pieceless: true });
  assert.equal(decoder.hasWork, false);
  await partial.write(0, [xz.subarray(0, 1_000_000)], 'upstream');
  assert.equal(decoder.hasWork, true);
  await catchUp(decoder);
  assert.equal(decoder.hasWork, false);
  await partial.write(1_000_000, [xz.subarray(1_000_000)], 'upstream');
  await partial.settle(target);
  assert.equal(await decoder.finish(fileHash), true);
  assert.deepEqual(await readFile(out), contents);
});

test('decodes pieces that arrive in any order', async (t) => {
  const { contents, partial, target, fileHash, out, decoder, piece } = await scene(t);
  const indexes = Array.from({ length: partial.pieceCount }, (_, index) => index);
  await partial.putPiece(1, piece(1), 'peer');
  assert.equal(decoder.hasWork, false, 'the first piece is missing');
  for (const index of [0, ...indexes.slice(2).toReversed()]) {
    await partial.putPiece(index, piece(index), 'peer');
    await catchUp(decoder);
  }
  await partial.settle(target);
  assert.equal(await decoder.finish(fileHash), true);
  assert.deepEqual(await readFile(out), contents);
});

test('begins with the bytes of an earlier run', async (t) => {
  const contents = randomBytes(SIZE_BYTES);
  const xz = xzOf(contents);
  const before = xz.subarray(0, 900_000);
  const { partial, fileHash, target, out, decoder } = await scene(t, { contents, pieceless: true, before });
  assert.equal(decoder.hasWork, true);
  await catchUp(decoder);
  await partial.write(before.length, [xz.subarray(before.length)], 'upstream');
  await partial.settle(target);
  assert.equal(await decoder.finish(fileHash), true);
  assert.deepEqual(await readFile(out), contents);
});

test('decodes nothing that a liar has sent, also after it was mended', async (t) => {
  const { partial, xz, fileHash, decoder, piece, target } = await scene(t);
  for (let index = 0; index < partial.pieceCount; index++) {
    const bytes = index === 2 ? randomBytes(piece(2).length) : piece(index);
    await partial.putPiece(index, bytes, index === 2 ? 'liar' : 'peer', false);
  }
  await catchUp(decoder);
  await assert.rejects(partial.settle(target));
  for (const { from, to } of partial.missing()) await partial.write(from, [xz.subarray(from, to)], 'upstream');
  await partial.settle(target);
  assert.equal(await decoder.finish(fileHash), false);
});

test('does not take another file for this one', async (t) => {
  const { partial, xz, fileHash, decoder, target } = await scene(t, { pieceless: true });
  const other = xzOf(randomBytes(SIZE_BYTES));
  assert.equal(other.length, xz.length);
  await partial.write(0, [other], 'liar');
  await catchUp(decoder);
  await assert.rejects(partial.settle(target));
  await partial.write(0, [xz], 'upstream');
  await partial.settle(target);
  assert.equal(await decoder.finish(fileHash), false);
});

test('ends if bytes that it has decoded are dropped', async (t) => {
  const { partial, xz, fileHash, decoder } = await scene(t, { pieceless: true });
  await partial.write(0, [xz.subarray(0, 1_200_000)], 'upstream');
  await catchUp(decoder);
  partial.reset();
  await catchUp(decoder);
  await partial.write(0, [xz], 'upstream');
  assert.equal(decoder.hasWork, false);
  assert.equal(await decoder.finish(fileHash), false);
});

test('goes on after wrong bytes that it has not decoded, and ends if it has decoded them', async (t) => {
  for (const hasDecoded of [false, true]) {
    const { contents, partial, xz, fileHash, decoder, target, out } = await scene(t, { pieceless: true });
    await partial.write(0, [xz.subarray(0, 600_000)], 'cache');
    await catchUp(decoder);
    await partial.write(600_000, [randomBytes(PIECE)], 'liar');
    await partial.write(600_000 + PIECE, [xz.subarray(600_000 + PIECE)], 'cache');
    if (hasDecoded) await catchUp(decoder);
    await assert.rejects(partial.settle(target, { isTrusted: (origin) => origin === 'cache' }));
    for (const { from, to } of partial.missing()) await partial.write(from, [xz.subarray(from, to)], 'cache');
    await partial.settle(target);
    assert.equal(await decoder.finish(fileHash), !hasDecoded);
    if (!hasDecoded) assert.deepEqual(await readFile(out), contents);
  }
});

test('stops at the limit', async (t) => {
  const contents = Buffer.concat([randomBytes(SIZE_BYTES), Buffer.alloc(50_000_000)]);
  const { partial, xz, fileHash, decoder, out } = await scene(t, { contents, maxBytes: 2_000_000, pieceless: true });
  await partial.write(0, [xz], 'upstream');
  assert.equal(await decoder.finish(fileHash), false);
  assert.ok((await stat(out)).size <= 2_000_384);
});

test('does not accept a file that is cut short', async (t) => {
  const { partial, xz, decoder } = await scene(t, { pieceless: true });
  const begun = xz.subarray(0, 1_200_000);
  await partial.write(0, [begun], 'upstream');
  assert.equal(await decoder.finish(hashOf(begun)), false);
});

for (const [what, script] of [
  ['is not there', 'exit 127'],
  ['is killed', 'head -c 300000 >/dev/null; kill -9 $$'],
] as const) {
  test(`fails if xz ${what}, and the NAR arrives nevertheless`, async (t) => {
    const { partial, xz, fileHash, decoder, target } = await scene(t, { pieceless: true });
    await fakeXz(t, script);
    await partial.write(0, [xz.subarray(0, 1_200_000)], 'upstream');
    await catchUp(decoder);
    await partial.write(1_200_000, [xz.subarray(1_200_000)], 'upstream');
    await partial.settle(target);
    assert.equal(await decoder.finish(fileHash), false);
    assert.deepEqual(await readFile(target), xz);
  });
}

test('does not hold up a NAR while xz reads nothing', async (t) => {
  const { partial, xz, target, decoder } = await scene(t, { pieceless: true });
  await fakeXz(t, 'exec sleep 600');
  await partial.write(0, [xz.subarray(0, 1_200_000)], 'upstream');
  const turns = catchUp(decoder);
  await partial.write(1_200_000, [xz.subarray(1_200_000)], 'upstream');
  await partial.settle(target);
  await decoder[Symbol.asyncDispose]();
  await turns;
});
