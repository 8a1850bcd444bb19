import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { formatRecords } from '../../../src/index/record.ts';
import {
  assertShard,
  decodeShard,
  type ListedShard,
  encodeShard,
  prefixLengthFor,
  shardEntryOf,
  shardFileName,
  shardPrefix,
} from '../../../src/index/format/shard.ts';
import { parseStoreHash, storeHashOf } from '../../../src/nix/store-path.ts';
import { syntheticRecords } from '../../bench/records.ts';
import { failsWith, TOP } from '../../nix/fixtures.ts';
import { assertGoldenZstd, FIXTURES, flipBit, RECORDS, throwsOnlyOwnErrors } from '../fixtures.ts';

const MAX_BYTES = 1_000_000;
const BY_HASH = new Map(RECORDS.map((info) => [storeHashOf(info.storePath), info]));
const GOLDEN = readFileSync(new URL('shards/all.zst', FIXTURES));

/** Decodes bytes as if a manifest listed them: a publisher may sign anything. */
const decodeAny = (bytes: Uint8Array, options: Parameters<typeof decodeShard>[1]): ReturnType<typeof decodeShard> =>
  decodeShard(bytes as ListedShard, options);
const decode = (bytes: Uint8Array) => throwsOnlyOwnErrors(() => void [...decodeAny(bytes, { maxBytes: MAX_BYTES })]);

test('reads the golden shard', () => {
  assert.deepEqual(new Map(decodeAny(GOLDEN, { maxBytes: MAX_BYTES })), BY_HASH);
});

test('writes the golden shard', () => {
  assertGoldenZstd();
  assert.deepEqual(Buffer.from(encodeShard(RECORDS)), GOLDEN);
});

test('the same records give the same bytes, in any order', () => {
  const records = syntheticRecords(200);
  assert.deepEqual(encodeShard(records), encodeShard(records.toReversed()));
  const byHash = new Map(records.map((info) => [storeHashOf(info.storePath), info]));
  const decoded = decodeShard(encodeShard(records), { maxBytes: MAX_BYTES });
  assert.deepEqual(new Map(decoded), byHash);
  for (const [hash, info] of byHash) assert.deepEqual(decoded.get(hash), info);
  assert.equal(decoded.get(parseStoreHash('z'.repeat(32))), undefined);
  assert.equal(decodeShard(encodeShard([]), { maxBytes: MAX_BYTES }).size, 0);
});

test('a shard may unpack to maxBytes, but not to one byte more', () => {
  const maxBytes = Buffer.byteLength(formatRecords(RECORDS));
  assert.equal(decodeAny(GOLDEN, { maxBytes }).size, 3);
  assert.throws(() => decodeAny(GOLDEN, { maxBytes: maxBytes - 1 }), failsWith('INDEX_INVALID', /at most/));
  const bomb = zstdCompressSync(Buffer.alloc(50_000_000));
  assert.throws(() => decodeAny(bomb, { maxBytes: MAX_BYTES }), failsWith('INDEX_INVALID', /at most 1000000 bytes/));
});

test('refuses records with another prefix', () => {
  assert.equal(decodeShard(encodeShard(RECORDS.slice(0, 1)), { maxBytes: MAX_BYTES, prefix: TOP.slice(0, 1) }).size, 1);
  assert.throws(
    () => decodeAny(GOLDEN, { maxBytes: MAX_BYTES, prefix: TOP.slice(0, 2) }),
    failsWith('INDEX_INVALID', /shards\/ak\.zst has a record of/),
  );
});

test('refuses a window that would be allocated ahead', () => {
  const params = { [constants.ZSTD_c_windowLog]: 27 };
  const text = Buffer.concat([Buffer.from(formatRecords(RECORDS)), Buffer.alloc(200_000_000)]);
  const frame = zstdCompressSync(text, { params });
  assert.throws(() => decodeAny(frame, { maxBytes: 300_000_000 }), failsWith('INDEX_INVALID', /not zstd/));
});

test('refuses anything else than a shard', () => {
  const latin1 = zstdCompressSync(Buffer.from(formatRecords(RECORDS).replace('nar/', 'nar/\xff'), 'latin1'));
  const withMark = zstdCompressSync(Buffer.from(`\uFEFF${formatRecords(RECORDS)}`));
  for (const bytes of [Buffer.alloc(0), GOLDEN.subarray(0, -1), Buffer.from('StorePath: '), latin1, withMark]) {
    assert.throws(() => [...decodeAny(bytes, { maxBytes: MAX_BYTES })], failsWith('INDEX_INVALID'));
  }
  fc.assert(fc.property(fc.uint8Array(), decode));
  fc.assert(fc.property(fc.nat(GOLDEN.length * 8 - 1), (bit) => decode(flipBit(GOLDEN, bit))));
});

test('refuses a shard that does not match its manifest', () => {
  const entry = shardEntryOf('', GOLDEN);
  assert.match(entry.sha256, /^[01][0-9a-z]{51}$/);
  assert.equal(entry.sizeBytes, GOLDEN.length);
  assertShard(entry, GOLDEN);
  const longer = Buffer.concat([GOLDEN, GOLDEN]);
  assert.throws(
    () => assertShard(entry, longer),
    failsWith('INDEX_INVALID', /all\.zst has \d+ bytes, the manifest says/),
  );
  fc.assert(
    fc.property(fc.nat(GOLDEN.length * 8 - 1), (bit) => {
      assert.throws(() => assertShard(entry, flipBit(GOLDEN, bit)), failsWith('INDEX_INVALID', /not the one/));
    }),
  );
});

test('prefixes keep shards between 23 and 724 records', () => {
  const expected = [
    [0, 0],
    [1, 0],
    [724, 0],
    [725, 1],
    [23_168, 1],
    [23_169, 2],
    [100_000, 2],
    [741_376, 2],
    [100_000_000, 2],
  ] as const;
  for (const [recordCount, length] of expected) assert.equal(prefixLengthFor(recordCount), length, `${recordCount}`);
  fc.assert(
    fc.property(fc.integer({ min: 725, max: 741_376 }), (recordCount) => {
      const mean = recordCount / 32 ** prefixLengthFor(recordCount);
      assert.ok(mean > 22 && mean <= 724, `${recordCount} records: ${mean}`);
    }),
  );
});

test('names a shard by its prefix', () => {
  const storeHash = parseStoreHash(TOP);
  assert.deepEqual(
    [0, 1, 2, 3].map((length) => shardPrefix(storeHash, length)),
    ['', 'a', 'ak', 'ak1'],
  );
  assert.equal(shardFileName('ak'), 'shards/ak.zst');
  assert.equal(shardFileName(''), 'shards/all.zst');
});
