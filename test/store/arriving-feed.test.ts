import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import type { FileHash } from '../../src/nix/brands.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { ArrivingFeed } from '../../src/store/arriving-feed.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';
import { tempDir } from './store-fixture.ts';

const SIZE_BYTES = 1_500_000;
const PIECE = 256 * 1024;

interface Scene {
  readonly bytes: Buffer;
  readonly fileHash: FileHash;
  readonly partial: PartialNar;
  readonly target: string;
  readonly fifo: string;
  readonly feed: ArrivingFeed;
  /** All bytes that a reader of the FIFO gets. */
  readonly got: Promise<Buffer>;
  readonly piece: (index: number) => Buffer;
}

const hashOf = (bytes: Buffer): FileHash => fileHashOf(createHash('sha256').update(bytes).digest());

interface SceneOptions {
  readonly pieceless?: boolean;
  /** Bytes of an earlier run. */
  readonly before?: number;
  readonly isRead?: boolean;
}

async function scene(t: TestContext, options: SceneOptions = {}): Promise<Scene> {
  const { pieceless = false, before, isRead = true } = options;
  const dir = await tempDir(t);
  const bytes = randomBytes(SIZE_BYTES);
  const torrent = torrentOf(bytes);
  const fileHash = hashOf(bytes);
  if (before !== undefined) await writeFile(join(dir, 'partial'), bytes.subarray(0, before));
  const expected = { sizeBytes: bytes.length, fileHash, torrent: pieceless ? undefined : torrent };
  const partial = await PartialNar.open(join(dir, 'partial'), expected);
  const fifo = join(dir, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const feed = new ArrivingFeed(partial, fifo);
  partial.follow(() => void feed.run());
  const got = isRead ? buffer(createReadStream(fifo)) : Promise.resolve(Buffer.alloc(0));
  t.after(async () => {
    await feed[Symbol.asyncDispose]();
    await got;
    await partial.close();
  });
  const piece = (index: number): Buffer =>
    bytes.subarray(index * torrent.pieceLength, (index + 1) * torrent.pieceLength);
  return { bytes, fileHash, partial, target: join(dir, 'target'), fifo, feed, got, piece };
}

test('gives a file to a reader while it arrives from its front', async (t) => {
  const { bytes, fileHash, partial, target, fifo, feed } = await scene(t, { pieceless: true, isRead: false });
  const reader = spawn('head', ['-c', '700000', fifo], { stdio: ['ignore', 'pipe', 'inherit'] });
  await partial.write(0, [bytes.subarray(0, 1_000_000)], 'upstream');
  assert.deepEqual(await buffer(reader.stdout), bytes.subarray(0, 700_000));
  const rest = buffer(createReadStream(fifo)); // it opens the FIFO after another reader has closed it
  await partial.write(1_000_000, [bytes.subarray(1_000_000)], 'upstream');
  await partial.settle(target);
  assert.equal(await feed.finish(fileHash), true);
  assert.ok((await rest).equals(bytes.subarray(-(await rest).length)));
});

test('gives pieces that arrive in any order', async (t) => {
  const { bytes, partial, target, fileHash, feed, got, piece } = await scene(t);
  const indexes = Array.from({ length: partial.pieceCount }, (_, index) => index);
  for (const index of [1, 0, ...indexes.slice(2).toReversed()]) await partial.putPiece(index, piece(index), 'peer');
  await partial.settle(target);
  assert.equal(await feed.finish(fileHash), true);
  assert.deepEqual(await got, bytes);
});

test('begins with the bytes of an earlier run', async (t) => {
  const { bytes, partial, fileHash, target, feed, got } = await scene(t, { pieceless: true, before: 900_000 });
  await feed.run();
  await partial.write(900_000, [bytes.subarray(900_000)], 'upstream');
  await partial.settle(target);
  assert.equal(await feed.finish(fileHash), true);
  assert.deepEqual(await got, bytes);
});

test('a reader never gets the end of a wrong file, also after it was mended', async (t) => {
  const { partial, bytes, fileHash, feed, piece, target, got } = await scene(t);
  for (let index = 0; index < partial.pieceCount; index++) {
    const given = index === 2 ? randomBytes(piece(2).length) : piece(index);
    await partial.putPiece(index, given, index === 2 ? 'liar' : 'peer', false);
  }
  await assert.rejects(partial.settle(target));
  for (const { from, to } of partial.missing()) await partial.write(from, [bytes.subarray(from, to)], 'upstream');
  await partial.settle(target);
  const isRight = await feed.finish(fileHash);
  const { length } = await got;
  // It may not have read the liar's bytes before they were replaced.
  assert.equal(isRight, (await got).equals(bytes));
  if (!isRight) assert.ok(length < bytes.length, `${length} bytes`);
});

test('does not take another file for this one, and nobody finds its FIFO then', async (t) => {
  const { partial, bytes, fileHash, feed, target, fifo, got } = await scene(t, { pieceless: true });
  const other = randomBytes(SIZE_BYTES);
  await partial.write(0, [other], 'liar');
  await feed.run();
  await assert.rejects(partial.settle(target));
  await partial.write(0, [bytes], 'upstream');
  await partial.settle(target);
  assert.equal(await feed.finish(fileHash), false);
  assert.ok((await got).length < SIZE_BYTES);
  assert.equal(existsSync(fifo), false);
});

test('ends if bytes that it has given are dropped', async (t) => {
  const { partial, bytes, fileHash, feed, got } = await scene(t, { pieceless: true });
  await partial.write(0, [bytes.subarray(0, 1_200_000)], 'upstream');
  await feed.run();
  partial.reset();
  await feed.run();
  await partial.write(0, [bytes], 'upstream');
  assert.equal(await feed.finish(fileHash), false);
  assert.ok((await got).length < SIZE_BYTES);
});

test('goes on after wrong bytes that it has not given, and ends if it has given them', async (t) => {
  for (const hasGiven of [false, true]) {
    const { partial, bytes, fileHash, feed, target, got } = await scene(t, { pieceless: true });
    await partial.write(0, [bytes.subarray(0, 600_000)], 'cache');
    await feed.run();
    partial.follow(() => undefined);
    await partial.write(600_000, [randomBytes(PIECE)], 'liar');
    await partial.write(600_000 + PIECE, [bytes.subarray(600_000 + PIECE)], 'cache');
    if (hasGiven) await feed.run();
    await assert.rejects(partial.settle(target, { isTrusted: (origin) => origin === 'cache' }));
    for (const { from, to } of partial.missing()) await partial.write(from, [bytes.subarray(from, to)], 'cache');
    await partial.settle(target);
    assert.equal(await feed.finish(fileHash), !hasGiven);
    assert.equal((await got).equals(bytes), !hasGiven);
  }
});

test('does not finish a file that is cut short', async (t) => {
  const { partial, bytes, feed, got } = await scene(t, { pieceless: true });
  const begun = bytes.subarray(0, 1_200_000);
  await partial.write(0, [begun], 'upstream');
  await feed.run();
  await feed[Symbol.asyncDispose]();
  assert.equal(await feed.finish(hashOf(begun)), false);
  assert.ok((await got).length < begun.length);
});

test('does not hold up a NAR that nobody reads', async (t) => {
  const { partial, bytes, fileHash, target, feed } = await scene(t, { pieceless: true, isRead: false });
  await partial.write(0, [bytes.subarray(0, 1_200_000)], 'upstream');
  const running = feed.run();
  await partial.write(1_200_000, [bytes.subarray(1_200_000)], 'upstream');
  await partial.settle(target);
  const finished = feed.finish(fileHash);
  await feed[Symbol.asyncDispose]();
  assert.equal(await finished, false);
  await running;
});
