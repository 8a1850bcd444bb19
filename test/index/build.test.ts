import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { buildIndex } from './built-index.ts';
import { buildShards } from '../../src/index/build.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { torrentOfRecord } from '../../src/index/record.ts';
import { assertShard, decodeShard, shardPrefix } from '../../src/index/format/shard.ts';
import { formatNarInfo, parseNarInfo, withExtra } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStorePath, storeHashOf } from '../../src/nix/store-path.ts';
import { syntheticRecords } from '../bench/records.ts';
import { failsWith, readNarInfo, TOP } from '../nix/fixtures.ts';
import { assertGoldenZstd, FIXTURES, GOLDEN, KEY, NOW, RECORDS } from './fixtures.ts';

const buildOf = (records: typeof RECORDS) => () => buildIndex({ ...GOLDEN, records });
const EXPECTED = { publicKey: KEY.publicKey, salt: 'desktop', now: NOW };

test('builds the golden hash map', async () => {
  assertGoldenZstd();
  const { manifest, shards } = await buildIndex(GOLDEN);
  assert.deepEqual(Buffer.from(manifest), readFileSync(new URL('manifest', FIXTURES)));
  assert.deepEqual([...shards.keys()], ['']);
  assert.deepEqual(Buffer.from(shards.get('')!), readFileSync(new URL('shards/all.zst', FIXTURES)));
});

test('finds every record by its store hash, in a shard of the manifest', async () => {
  const records = syntheticRecords(2000);
  const { manifest: bytes, shards } = await buildIndex({ ...GOLDEN, records });
  const manifest = parseManifest(bytes, EXPECTED);
  assert.equal(manifest.prefixLength, 1);
  assert.equal(manifest.recordCount, 2000);
  assert.deepEqual(
    manifest.shards.map(({ prefix }) => prefix),
    [...shards.keys()],
  );
  assert.deepEqual([...shards.keys()], [...shards.keys()].toSorted());

  const decoded = new Map(
    manifest.shards.map((entry) => {
      const shard = shards.get(entry.prefix)!;
      assertShard(entry, shard);
      return [entry.prefix, decodeShard(shard, { maxBytes: 10_000_000 })];
    }),
  );
  for (const record of records) {
    const storeHash = storeHashOf(record.storePath);
    const found: NarInfo | undefined = decoded.get(shardPrefix(storeHash, manifest.prefixLength))?.get(storeHash);
    assert.deepEqual(found, record);
    assert.ok(torrentOfRecord(record));
  }
});

test('the same records give the same bytes, and a changed record changes one shard', async () => {
  const records = syntheticRecords(1000);
  const first = await buildIndex({ ...GOLDEN, records });
  assert.deepEqual(await buildIndex({ ...GOLDEN, records: records.toReversed() }), first);
  const changed = records.with(500, withExtra(records[500]!, 'System', 'x86_64-linux'));
  const second = await buildIndex({ ...GOLDEN, records: changed, seq: 43 });
  const differing = [...first.shards].filter(
    ([prefix, bytes]) => !Buffer.from(bytes).equals(second.shards.get(prefix)!),
  );
  assert.deepEqual(
    differing.map(([prefix]) => prefix),
    [storeHashOf(records[500]!.storePath).slice(0, 1)],
  );
});

test('holds the texts of the records once', async () => {
  const [records, noteBytes] = [1000, 20_000];
  const collect = garbageCollector();
  function* read(): Generator<NarInfo> {
    for (const record of syntheticRecords(records))
      yield parseNarInfo(formatNarInfo(withExtra(record, 'Note', 'x'.repeat(noteBytes))));
  }
  collect();
  const { heapUsed } = process.memoryUsage(); // without Buffers
  const grown: number[] = [];
  await buildShards({ ...GOLDEN, records: read() }, undefined, {
    readShard: () => Promise.resolve(undefined),
    writeShard: () => {
      if (grown.length === 0) {
        collect();
        grown.push(process.memoryUsage().heapUsed - heapUsed);
      }
      return Promise.resolve();
    },
  });
  assert.equal(grown.length, 1);
  assert.ok(grown[0]! < (records * noteBytes) / 4, `the heap has grown by ${grown[0]} bytes`);
});

test('accepts a hash map without records, and a record without a torrent', async () => {
  const empty = await buildIndex({ ...GOLDEN, records: [] });
  assert.equal(empty.shards.size, 0);
  assert.deepEqual(parseManifest(empty.manifest, EXPECTED).shards, []);
  assert.equal((await buildIndex({ ...GOLDEN, records: [parseNarInfo(readNarInfo(TOP))] })).shards.size, 1);
});

test('refuses records that do not belong together', async () => {
  const [record] = RECORDS;
  const elsewhere = { ...record!, storePath: parseStorePath(`/gnu/store/${TOP}-top`) };
  const unfit = withExtra(record!, 'InfoHash', '0'.repeat(40));
  await assert.rejects(
    buildOf([elsewhere]),
    failsWith('INDEX_INVALID', /\/gnu\/store.* is not in the store directory \/nix\/store/),
  );
  await assert.rejects(buildOf([unfit]), failsWith('INDEX_INVALID', /InfoHash/));
  await assert.rejects(buildOf([record!, record!]), failsWith('INDEX_INVALID', /two records/));
  await assert.rejects(() => buildIndex({ ...GOLDEN, seq: 0 }), failsWith('INDEX_INVALID', /Seq/));
});

/** Returns a function that collects all garbage. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
