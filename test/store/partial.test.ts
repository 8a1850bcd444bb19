import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { access, open, readdir, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fileHashOf } from '../../src/nix/hash.ts';
import { PartialNar, type Range } from '../../src/store/partial.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';
import { failureOf, hashThread, prepare, type Case } from './partial-fixture.ts';
import { tempDir } from './store-fixture.ts';

/** Bytes of each piece of a larger NAR. A NAR of more than four is in a file from the first byte on. */
const PIECE = 256 * 1024;

/** Some pieces as `missing` returns them. */
function pieces(...ranges: readonly (readonly [from: number, to: number])[]): Range[] {
  return ranges.map(([from, to]) => ({ from: from * PIECE, to: to * PIECE }));
}

for (const sizeBytes of [1, 70_000, PIECE, PIECE + 1, 4 * PIECE, 4 * PIECE + 1, 7 * PIECE]) {
  test(`a NAR of ${sizeBytes} bytes is in place once it is complete, and not before`, async (t) => {
    const { bytes, path, target, begin, piece } = await prepare(t, sizeBytes);
    const partial = await begin();
    for (let index = partial.pieceCount - 1; index >= 0; index--) {
      await assert.rejects(partial.settle(target), { code: 'SIZE_MISMATCH' });
      await assert.rejects(access(target));
      await partial.putPiece(index, piece(index), 'a peer');
      assert.ok(partial.has(index));
    }
    assert.deepEqual([partial.missing(), partial.heldBytes], [[], sizeBytes]);
    await partial.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
    await assert.rejects(access(path));
  });
}

test('continues after a crash with the pieces whose SHA-1 is right', async (t) => {
  const { bytes, target, begin, piece, path } = await prepare(t, 4 * PIECE + 100);
  const before = await begin();
  await before.putPiece(0, piece(0), 'a peer');
  await before.putPiece(2, piece(2), 'a peer');
  await before.putPiece(4, piece(4), 'a peer');
  await before.write(3 * PIECE, [piece(3).subarray(0, 500)], 'a server'); // torn: half a piece is worth nothing
  await before.close();
  const after = await begin();
  assert.deepEqual(after.missing(), pieces([1, 2], [3, 4]));
  await after.putPiece(1, piece(1), 'a peer');
  await after.putPiece(3, piece(3), 'a peer');
  await after.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
  await assert.rejects(access(path));
});

test('continues with the pieces of an earlier run if nobody knows the torrent this time', async (t) => {
  const { bytes, target, begin, piece, path } = await prepare(t, 4 * PIECE + 100);
  const before = await begin();
  await before.putPiece(2, piece(2), 'a peer');
  await before.putPiece(4, piece(4), 'a peer');
  await before.close();
  const second = await begin({ pieceless: true });
  assert.deepEqual(second.missing(), pieces([0, 2], [3, 4]));
  await second.write(0, [bytes.subarray(0, PIECE + 500)], 'a server');
  await second.close();
  assert.deepEqual((await begin()).missing(), pieces([1, 2], [3, 4]), 'the torrent is known again');
  const after = await begin({ pieceless: true });
  await after.write(PIECE, [bytes.subarray(PIECE, 2 * PIECE)], 'a server');
  await after.putPiece(3, piece(3), 'a peer');
  await after.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
  assert.deepEqual(await readdir(dirname(path)), ['target'], 'nothing is left beside it');
});

test('saves the hashes of pieces before the first gap, and not for bytes in order', async (t) => {
  const { begin, piece, path } = await prepare(t, 7 * PIECE);
  const partial = await begin();
  await partial.putPiece(0, piece(0), 'a peer');
  await assert.rejects(access(`${path}.pieces`));
  const writing = partial.putPiece(2, piece(2), 'a peer');
  await access(`${path}.pieces`); // though the piece is still on its way
  await writing;
  await partial.discard();
  assert.deepEqual(await readdir(dirname(path)), []);
});

test('takes saved hashes of pieces for what a stranger said', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 7 * PIECE);
  for (const saved of [Buffer.alloc(0), randomBytes(7), randomBytes(140)]) {
    await writeFile(path, bytes.subarray(0, 2 * PIECE));
    await writeFile(`${path}.pieces`, saved);
    const partial = await begin({ pieceless: true });
    const heldBytes = saved.length === 140 ? 0 : 2 * PIECE; // a file without a digest for each piece is ignored
    assert.equal(partial.heldBytes, heldBytes);
    await partial.write(heldBytes, [bytes.subarray(heldBytes)], 'a server');
    await partial.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
    await rm(`${path}.pieces`, { force: true });
  }
});

test('the torrent decides if other hashes of pieces are saved', async (t) => {
  const { path, begin, piece } = await prepare(t, 7 * PIECE);
  await writeFile(path, Buffer.concat([piece(0), Buffer.alloc(PIECE), piece(2)]));
  await writeFile(`${path}.pieces`, randomBytes(140));
  await (await begin()).close();
  assert.deepEqual(
    (await begin({ pieceless: true })).missing(),
    pieces([1, 2], [3, 7]),
    'the right ones are saved by now',
  );
});

test('a damaged file loses only the damaged piece', async (t) => {
  const { bytes, path, begin } = await prepare(t, 7 * PIECE);
  const damaged = Buffer.from(bytes);
  damaged.writeUInt8(damaged.readUInt8(PIECE + 5) ^ 1, PIECE + 5);
  await writeFile(path, damaged);
  assert.deepEqual((await begin()).missing(), pieces([1, 2]));
});

for (const sizeBytes of [70_000, 7 * PIECE]) {
  test(`a NAR of ${sizeBytes} bytes with an unchecked piece is not known to fit its torrent, and its liar is named`, async (t) => {
    const { bytes, target, begin, piece } = await prepare(t, sizeBytes);
    const partial = await begin();
    const last = partial.pieceCount - 1;
    for (let index = 0; index < last; index++) await partial.putPiece(index, piece(index), 'a peer', false);
    await partial.putPiece(last, randomBytes(piece(last).length), 'a liar', false);
    const { code, facts } = await failureOf(partial.settle(target));
    assert.deepEqual([code, facts['origins'], facts['mapLied']], ['HASH_MISMATCH', ['a liar'], false]);
    await assert.rejects(access(target));
    assert.equal(partial.has(last), false);
    await partial.putPiece(last, piece(last), 'a peer', false);
    assert.equal(await partial.settle(target), false);
    assert.ok(bytes.equals(await readFile(target)));
  });
}

test('cuts a file that is longer than the NAR', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 7 * PIECE);
  await writeFile(path, Buffer.concat([bytes, randomBytes(1000)]));
  const partial = await begin();
  assert.deepEqual(partial.missing(), []);
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

test('without a torrent, the length of the file says how many bytes are there', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 7 * PIECE);
  await writeFile(path, bytes.subarray(0, 1_500_000));
  const partial = await begin({ pieceless: true });
  assert.deepEqual(partial.missing(), [{ from: 1_500_000, to: 7 * PIECE }]);
  await partial.write(1_500_000, [bytes.subarray(1_500_000)], 'a server');
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

test('without a torrent, a NAR may have more than 4 GiB', async (t) => {
  const path = join(await tempDir(t), 'partial');
  const sizeBytes = 5 * 1024 ** 3;
  await using file = await open(path, 'w');
  await file.truncate(4 * 1024 ** 3 + 10); // sparse: takes no room
  const fileHash = fileHashOf(createHash('sha256').digest());
  await using partial = await PartialNar.open(path, { sizeBytes, fileHash }, new Set(), hashThread);
  assert.deepEqual(partial.missing(), [{ from: 4 * 1024 ** 3 + 10, to: sizeBytes }]);
  await partial.write(4 * 1024 ** 3 + 10, [Buffer.alloc(10)], 'a server');
  assert.equal(partial.heldBytes, 4 * 1024 ** 3 + 20);
});

test('a peer may finish a NAR begun by HTTP, and HTTP one begun by peers', async (t) => {
  const { bytes, target, begin, piece } = await prepare(t, 7 * PIECE);
  const partial = await begin();
  await partial.write(0, [bytes.subarray(0, 1000), bytes.subarray(1000, PIECE + 1000)], 'a server');
  assert.deepEqual(partial.missing(), [{ from: PIECE + 1000, to: 7 * PIECE }]);
  await partial.putPiece(1, piece(1), 'a peer');
  assert.deepEqual(partial.missing(), pieces([2, 7]));
  await partial.write(2 * PIECE, [bytes.subarray(2 * PIECE)], 'a server');
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

for (const sizeBytes of [50_000, 5 * PIECE]) {
  test(`of ${sizeBytes} bytes, a peer replaces wrong bytes of a server, and the whole is good`, async (t) => {
    const { bytes, target, begin, piece } = await prepare(t, sizeBytes);
    const partial = await begin();
    await partial.write(0, [randomBytes(1000)], 'a server');
    for (let index = 0; index < partial.pieceCount; index++) await partial.putPiece(index, piece(index), 'a peer');
    await partial.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
  });
}

test('refuses bytes beyond the end, and keeps none of them', async (t) => {
  for (const sizeBytes of [1000, 7 * PIECE]) {
    const { begin } = await prepare(t, sizeBytes);
    const partial = await begin({ pieceless: true });
    for (const [offset, length] of [
      [0, sizeBytes + 1],
      [sizeBytes, 1],
      [-1, 1],
    ] as const) {
      assert.equal((await failureOf(partial.write(offset, [Buffer.alloc(length)], 'a server'))).code, 'SIZE_MISMATCH');
    }
    assert.equal(partial.heldBytes, 0);
  }
});

test('blames wrong bytes on their sender, and fetches only them again', async (t) => {
  const { bytes, target, begin, piece } = await prepare(t, 4 * PIECE + 100);
  const partial = await begin();
  await partial.putPiece(4, piece(4), 'peer 1');
  await partial.putPiece(0, piece(0), 'peer 1');
  await partial.write(PIECE, [randomBytes(PIECE)], 'server 1');
  await partial.putPiece(2, piece(2), 'peer 2');
  await partial.write(3 * PIECE, [randomBytes(PIECE)], 'server 2');
  const { code, facts } = await failureOf(partial.settle(target));
  assert.deepEqual([code, facts['mapLied'], facts['origins']], ['HASH_MISMATCH', false, ['server 1', 'server 2']]);
  await assert.rejects(access(target));
  assert.deepEqual(partial.missing(), pieces([1, 2], [3, 4]));
  await partial.putPiece(1, piece(1), 'peer 1');
  await partial.putPiece(3, piece(3), 'peer 1');
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

test('if every piece fits the torrent, the hash map lied, and no source is blamed', async (t) => {
  for (const sizeBytes of [1000, 5 * PIECE]) {
    const other = randomBytes(sizeBytes);
    const torrent = torrentOf(other);
    const dir = await tempDir(t);
    const fileHash = torrentOf(randomBytes(sizeBytes)).fileHash; // what the narinfo says
    await using partial = await PartialNar.open(
      join(dir, 'partial'),
      { sizeBytes, fileHash, torrent },
      new Set(),
      hashThread,
    );
    for (let index = 0; index < partial.pieceCount; index++) {
      await partial.putPiece(index, other.subarray(index * PIECE, (index + 1) * PIECE), 'a peer');
    }
    const { code, facts } = await failureOf(partial.settle(join(dir, 'target')));
    assert.deepEqual([code, facts['mapLied'], facts['origins']], ['HASH_MISMATCH', true, []]);
    assert.equal(partial.heldBytes, 0, 'all of it was forgotten');
    assert.ok(!(await readdir(dir)).includes('target'));
  }
});

test('without a torrent, drops all bytes if they are wrong, and accepts the right ones afterwards', async (t) => {
  const { bytes, target, begin } = await prepare(t, 5 * PIECE);
  const partial = await begin({ pieceless: true });
  await partial.write(0, [randomBytes(5 * PIECE)], 'a server');
  const { code, facts } = await failureOf(partial.settle(target));
  assert.deepEqual([code, facts['mapLied'], facts['origins']], ['HASH_MISMATCH', false, ['a server']]);
  assert.equal(partial.heldBytes, 0);
  await partial.write(0, [bytes], 'another server');
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

test('names an earlier run and a server if each sent a part', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 5 * PIECE);
  await writeFile(path, randomBytes(PIECE));
  const partial = await begin({ pieceless: true });
  await partial.write(PIECE, [bytes.subarray(PIECE)], 'a server');
  const { facts } = await failureOf(partial.settle(target));
  assert.deepEqual(facts['origins'], ['an earlier run', 'a server']);
});

/** Trusts the caches. */
const isTrusted = (origin: string): boolean => origin.startsWith('cache');

/** Writes a NAR without a torrent: a liar has sent `[from, to)`, and a cache the rest. The liar's bytes are dropped. */
async function mix({ bytes, target, begin }: Case, from: number, to: number): Promise<PartialNar> {
  const partial = await begin({ pieceless: true });
  if (from > 0) await partial.write(0, [bytes.subarray(0, from)], 'cache 1');
  await partial.write(from, [randomBytes(to - from)], 'a liar');
  if (to < bytes.length) await partial.write(to, [bytes.subarray(to)], 'cache 2');
  const { code, facts } = await failureOf(partial.settle(target, { isTrusted }));
  assert.deepEqual([code, facts['origins'], facts['mapLied']], ['HASH_MISMATCH', ['a liar'], false]);
  return partial;
}

for (const pieceCount of [4, 7]) {
  const sizeBytes = pieceCount * PIECE;
  for (const [what, from, to] of [
    ['front', 0, 2 * PIECE],
    ['middle', PIECE + 1000, 3 * PIECE],
    ['end', 2 * PIECE - 1, sizeBytes],
  ] as const) {
    test(`without a torrent, only wrong bytes at the ${what} of ${pieceCount} pieces are fetched again`, async (t) => {
      const one = await prepare(t, sizeBytes);
      const partial = await mix(one, from, to);
      assert.deepEqual([partial.missing(), partial.isDoubted], [[{ from, to }], true]);
      await assert.rejects(access(one.target));
      await partial.write(from, [one.bytes.subarray(from, from + 500)], 'a member');
      await partial.write(from + 500, [one.bytes.subarray(from + 500, to)], 'cache 1');
      await partial.settle(one.target, { isTrusted });
      assert.ok(one.bytes.equals(await readFile(one.target)));
      assert.deepEqual(await readdir(dirname(one.path)), ['target'], 'nothing is left beside it');
    });
  }

  test(`if ${pieceCount} pieces are wrong again, all of them are dropped, and all senders named`, async (t) => {
    const one = await prepare(t, sizeBytes);
    const partial = await mix(one, PIECE, 2 * PIECE);
    await partial.write(PIECE, [randomBytes(PIECE)], 'a member');
    const { facts } = await failureOf(partial.settle(one.target, { isTrusted }));
    assert.deepEqual(facts['origins'], ['cache 1', 'a member', 'cache 2']);
    assert.deepEqual([partial.missing(), partial.isDoubted], [pieces([0, pieceCount]), false]);
    await partial.write(0, [one.bytes], 'cache 1');
    await partial.settle(one.target, { isTrusted });
    assert.ok(one.bytes.equals(await readFile(one.target)));
    assert.deepEqual(await readdir(dirname(one.path)), ['target'], 'nothing is left beside it');
  });

  test(`all of ${pieceCount} pieces are dropped if only trusted senders sent them`, async (t) => {
    const { bytes, target, begin } = await prepare(t, sizeBytes);
    const partial = await begin({ pieceless: true });
    await partial.write(0, [randomBytes(PIECE)], 'cache 1');
    await partial.write(PIECE, [bytes.subarray(PIECE)], 'cache 2');
    const { facts } = await failureOf(partial.settle(target, { isTrusted }));
    assert.deepEqual([facts['origins'], partial.heldBytes, partial.isDoubted], [['cache 1', 'cache 2'], 0, false]);
  });
}

for (const [what, from, to] of [
  ['front', 0, 2 * PIECE],
  ['middle', PIECE + 1000, 3 * PIECE],
  ['end', 4 * PIECE - 1, 5 * PIECE],
] as const) {
  test(`of an incomplete NAR, what a liar has sent at the ${what} is dropped, and counts for nobody`, async (t) => {
    const { bytes, path, target, begin } = await prepare(t, 7 * PIECE);
    const partial = await begin({ pieceless: true });
    if (from > 0) await partial.write(0, [bytes.subarray(0, from)], 'cache 1');
    await partial.write(from, [randomBytes(to - from)], 'a liar');
    await partial.write(to, [bytes.subarray(to, 6 * PIECE)], 'a member');
    assert.equal(partial.frontFrom(isTrusted), from);
    await partial.dropFrom('a liar');
    assert.equal(partial.missing()[0]?.from, from);
    for (const range of partial.missing())
      await partial.write(range.from, [bytes.subarray(range.from, range.to)], 'cache 1');
    await partial.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
    assert.deepEqual(await readdir(dirname(path)), ['target'], 'no file is left beside it');
  });
}

test('after a crash, no bytes behind dropped ones count as held, unless the torrent is known', async (t) => {
  for (const pieceless of [true, false]) {
    const one = await prepare(t, 7 * PIECE);
    const partial = await mix(one, PIECE + 1000, 3 * PIECE);
    await partial.write(PIECE + 1000, [one.bytes.subarray(PIECE + 1000, 2 * PIECE)], 'cache 1');
    const after = await one.begin({ pieceless }); // the first one was not closed
    const missing = pieceless ? [{ from: PIECE + 1000, to: 7 * PIECE }] : pieces([2, 3]);
    assert.deepEqual(after.missing(), missing);
    for (const { from, to } of missing) await after.write(from, [one.bytes.subarray(from, to)], 'cache 1');
    await after.settle(one.target);
    assert.ok(one.bytes.equals(await readFile(one.target)));
    assert.deepEqual(await readdir(dirname(one.path)), ['target'], 'nothing is left beside it');
  }
});

test('a run that begins after dropped bytes, and is killed, too, leaves what it has fetched', async (t) => {
  const one = await prepare(t, 7 * PIECE);
  await mix(one, PIECE, 3 * PIECE);
  const second = await one.begin({ pieceless: true });
  await second.write(PIECE, [one.bytes.subarray(PIECE, PIECE + 700)], 'cache 1');
  assert.deepEqual((await one.begin({ pieceless: true })).missing(), [{ from: PIECE + 700, to: 7 * PIECE }]);
});

test('an orderly stop keeps what has come in the place of dropped bytes', async (t) => {
  for (const sizeBytes of [4 * PIECE, 7 * PIECE]) {
    const one = await prepare(t, sizeBytes);
    const leftovers = new Set([one.path]);
    const partial = await mix({ ...one, begin: (how) => one.begin({ ...how, leftovers }) }, PIECE, 3 * PIECE);
    await partial.write(PIECE, [one.bytes.subarray(PIECE, 2 * PIECE + 9)], 'cache 1');
    await partial.close();
    const after = await one.begin({ pieceless: true, leftovers });
    assert.deepEqual(after.missing(), [{ from: 2 * PIECE + 9, to: sizeBytes }]);
    await after.write(2 * PIECE + 9, [one.bytes.subarray(2 * PIECE + 9)], 'cache 1');
    await after.settle(one.target);
    assert.ok(one.bytes.equals(await readFile(one.target)));
  }
});

test('after a crash, no dropped byte of a NAR that was wrong from end to end counts as held', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 7 * PIECE);
  const partial = await begin({ pieceless: true });
  await partial.write(0, [randomBytes(7 * PIECE)], 'a server');
  await failureOf(partial.settle(target));
  await partial.write(0, [bytes.subarray(0, 700)], 'a server');
  assert.equal((await stat(path)).size, 700);
});

test('does not accept a file that somebody cuts short meanwhile', async (t) => {
  const { path, target, begin, piece } = await prepare(t, 5 * PIECE);
  const partial = await begin();
  for (let index = 4; index >= 0; index--) await partial.putPiece(index, piece(index), 'a peer');
  await truncate(path, 100);
  assert.equal((await failureOf(partial.settle(target))).code, 'STORE_UNWRITABLE');
});

test('waits for a piece on its way to the disk after its source is stopped', async (t) => {
  const one = await prepare(t, 5 * PIECE);
  const partial = await one.begin();
  const putting = [0, 1, 2, 3, 4].map((index) => partial.putPiece(index, one.piece(index), 'peer'));
  assert.equal(partial.missing().length, 1, 'none is written yet');
  await partial.drain();
  assert.deepEqual(partial.missing(), []);
  await Promise.all(putting);
});

test('settle returns whether the pieces of the torrent are those of the NAR', async (t) => {
  const one = await prepare(t, 5 * PIECE + 5);
  const good = await one.begin();
  await good.write(0, [one.bytes], 'upstream');
  assert.equal(await good.settle(one.target, { readsPieces: true }), true);
  const other = await prepare(t, 5 * PIECE + 5);
  const expected = {
    sizeBytes: other.bytes.length,
    fileHash: torrentOf(other.bytes).fileHash,
    torrent: torrentOf(one.bytes),
  };
  const wrong = await PartialNar.open(`${other.path}-2`, expected, new Set(), hashThread);
  t.after(() => wrong.close());
  await wrong.write(0, [other.bytes], 'upstream');
  assert.equal(await wrong.settle(other.target, { readsPieces: true }), false);
});

test('without reading, settle vouches only for pieces that were checked when they came', async (t) => {
  const byHttp = await prepare(t, 5 * PIECE + 5);
  const unread = await byHttp.begin();
  await unread.write(0, [byHttp.bytes], 'upstream');
  assert.equal(await unread.settle(byHttp.target), false);
  const byPeers = await prepare(t, 2 * PIECE);
  const checked = await byPeers.begin();
  for (const index of [0, 1]) await checked.putPiece(index, byPeers.piece(index), 'a peer');
  assert.equal(await checked.settle(byPeers.target), true);
});

test('discard leaves nothing', async (t) => {
  const { path, begin, piece } = await prepare(t, 5 * PIECE);
  const partial = await begin();
  await partial.putPiece(0, piece(0), 'a peer');
  await partial.discard();
  await assert.rejects(stat(path), { code: 'ENOENT' });
});

test('gives the NAR for any order of peers and servers', async (t) => {
  const { bytes, begin, target, piece } = await prepare(t, 4 * PIECE + 77);
  const step = fc.record({ index: fc.integer({ min: 0, max: 4 }), part: fc.double({ min: 0, max: 1, noNaN: true }) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
      const partial = await begin();
      partial.reset();
      for (const { index, part } of steps) {
        const range = partial.missing().find(({ from, to }) => from <= index * PIECE && index * PIECE < to);
        if (range === undefined) continue;
        const to = Math.min(range.to, range.from + Math.ceil(part * PIECE));
        await partial.write(range.from, [bytes.subarray(range.from, to)], 'a server');
      }
      for (let index = 0; index < 5; index++) await partial.putPiece(index, piece(index), 'a peer');
      await partial.settle(target);
      assert.ok(bytes.equals(await readFile(target)));
    }),
    { numRuns: 25 },
  );
});

for (const pieceless of [true, false]) {
  test(`continues a small NAR that was closed: ${pieceless ? 'a prefix' : 'a piece'}`, async (t) => {
    const { bytes, path, target, begin } = await prepare(t, 200_000);
    const heldBytes = pieceless ? 100_000 : bytes.length;
    const leftovers = new Set<string>();
    const before = await begin({ pieceless, leftovers });
    if (pieceless) await before.write(0, [bytes.subarray(0, heldBytes)], 'a server');
    else await before.putPiece(0, Buffer.from(bytes), 'a peer');
    await Promise.all([before.close(), before.close()]);
    await before.close();
    assert.ok(bytes.subarray(0, heldBytes).equals(await readFile(path)));
    assert.deepEqual([...leftovers], [path]);
    const after = await begin({ pieceless, leftovers });
    assert.equal(after.heldBytes, heldBytes);
    if (pieceless) await after.write(heldBytes, [bytes.subarray(heldBytes)], 'a server');
    await after.settle(target);
    await after.close();
    assert.ok(bytes.equals(await readFile(target)));
    await assert.rejects(access(path), 'nothing is left behind');
  });
}

test('continues a small NAR that was closed with a gap, without its torrent, too', async (t) => {
  for (const pieceless of [false, true]) {
    const { bytes, path, target, begin, piece } = await prepare(t, 4 * PIECE);
    const leftovers = new Set<string>();
    const before = await begin({ leftovers });
    await before.putPiece(0, piece(0), 'a peer');
    await before.putPiece(2, piece(2), 'a peer');
    await assert.rejects(access(`${path}.pieces`), 'nothing is written while it is in memory');
    await before.close();
    const after = await begin({ pieceless, leftovers });
    assert.deepEqual(after.missing(), pieces([1, 2], [3, 4]));
    await after.write(PIECE, [piece(1)], 'a server');
    await after.putPiece(3, piece(3), 'a peer');
    await after.settle(target);
    await after.close();
    assert.ok(bytes.equals(await readFile(target)));
    assert.deepEqual(await readdir(dirname(path)), ['target'], 'nothing is left beside it');
  }
});

test('begins a small NAR again if its leftover does not fit the torrent', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 300_000);
  for (const leftover of [randomBytes(300_000), randomBytes(PIECE)]) {
    await writeFile(path, leftover);
    const partial = await begin({ leftovers: new Set([path]) });
    assert.equal(partial.heldBytes, 0);
    await partial.write(0, [bytes], 'a server');
    await partial.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
    await assert.rejects(access(path));
  }
});

for (const sizeBytes of [300_000, 5 * PIECE]) {
  test(`continues a NAR of ${sizeBytes} bytes in the middle of a piece, and begins the piece again if that was wrong`, async (t) => {
    for (const isRight of [true, false]) {
      const { bytes, path, target, begin } = await prepare(t, sizeBytes);
      const heldBytes = sizeBytes - 1000;
      const start = Math.floor((sizeBytes - 1) / PIECE) * PIECE;
      const torn = isRight ? bytes.subarray(start, heldBytes) : randomBytes(heldBytes - start);
      await writeFile(path, Buffer.concat([bytes.subarray(0, start), torn]));
      const partial = await begin({ leftovers: new Set([path]) });
      assert.equal(partial.heldBytes, heldBytes);
      await partial.write(heldBytes, [bytes.subarray(heldBytes)], 'a server');
      if (!isRight) {
        assert.equal((await failureOf(partial.settle(target))).code, 'HASH_MISMATCH');
        assert.deepEqual(partial.missing(), [{ from: start, to: sizeBytes }]);
        await partial.write(start, [bytes.subarray(start)], 'a server');
      }
      await partial.settle(target);
      assert.ok(bytes.equals(await readFile(target)));
    }
  });
}

test('fetches a small NAR again if its leftover is wrong, and names both the leftover and the source that continued it', async (t) => {
  const { bytes, path, target, begin } = await prepare(t, 300_000);
  await writeFile(path, randomBytes(1000));
  const partial = await begin({ pieceless: true, leftovers: new Set([path]) });
  await partial.write(1000, [bytes.subarray(1000)], 'a server');
  const { code, facts } = await failureOf(partial.settle(target));
  assert.deepEqual([code, facts['origins'], partial.heldBytes], ['HASH_MISMATCH', ['an earlier run', 'a server'], 0]);
  await partial.write(0, [bytes], 'a server');
  await partial.settle(target);
  assert.ok(bytes.equals(await readFile(target)));
});

test('looks for no unknown leftover, and misses none that is gone', async (t) => {
  const { bytes, path, begin } = await prepare(t, 300_000);
  await writeFile(path, bytes.subarray(0, 1000));
  assert.equal((await begin({ pieceless: true })).heldBytes, 0);
  await unlink(path);
  assert.equal((await begin({ pieceless: true, leftovers: new Set([path]) })).heldBytes, 0);
});

test('a small NAR leaves no file if it holds nothing or is discarded', async (t) => {
  const { bytes, path, begin } = await prepare(t, 300_000);
  await (await begin()).close();
  const forgotten = await begin();
  await forgotten.write(0, [bytes.subarray(0, 1000)], 'a server');
  forgotten.reset();
  await forgotten.close();
  await assert.rejects(access(path));
  const leftovers = new Set<string>();
  const discarded = await begin({ leftovers });
  await discarded.write(0, [bytes.subarray(0, 1000)], 'a server');
  await discarded.discard();
  await discarded.close();
  await assert.rejects(access(path));
  assert.equal(leftovers.size, 0, 'nothing was written first');
});

test('a closed small NAR accepts no more bytes', async (t) => {
  const { bytes, path, begin } = await prepare(t, 300_000);
  const partial = await begin({ pieceless: true });
  await partial.write(0, [bytes.subarray(0, 1000)], 'a server');
  await partial.close();
  const { code } = await failureOf(partial.write(1000, [bytes.subarray(1000, 2000)], 'a server'));
  assert.equal(code, 'STORE_UNWRITABLE');
  await partial.close();
  assert.ok(bytes.subarray(0, 1000).equals(await readFile(path)));
});

test('closes a small NAR without an error if its folder is gone', async (t) => {
  const { bytes, path, begin } = await prepare(t, 300_000);
  const partial = await begin({ pieceless: true });
  await partial.write(0, [bytes.subarray(0, 1000)], 'a server');
  await rm(dirname(path), { recursive: true });
  await partial.close();
});
