/** Lookups in a hash map whose source is silent or slow. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { buildIndex } from './built-index.ts';
import { HashMap, type HashMapOptions, type IndexSource } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { shardEntryOf } from '../../src/index/format/shard.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStoreHash, storeHashOf } from '../../src/nix/store-path.ts';
import { syntheticRecords } from '../bench/records.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { tempDir } from '../store/store-fixture.ts';
import { GOLDEN, KEY, NOW, RECORDS } from './fixtures.ts';

const INDEX = await buildIndex(GOLDEN);
const MANIFEST = parseManifest(INDEX.manifest, { publicKey: KEY.publicKey, now: NOW });
const SHARD = INDEX.shards.get('')!;

/** Makes a source that returns nothing until it is released. */
class LateSource implements IndexSource {
  readonly asked: string[] = [];
  readonly answer = Promise.withResolvers<Uint8Array>();

  readFile(name: string, { signal }: { signal: AbortSignal }): Promise<Uint8Array> {
    this.asked.push(name);
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    return Promise.race([
      this.answer.promise,
      new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    ]);
  }
}

async function countOf(map: HashMap, signal: AbortSignal): Promise<number> {
  let count = 0;
  for await (const _ of map.storeHashes(signal)) count++;
  return count;
}

async function mapOver(t: TestContext, source: IndexSource, options: HashMapOptions): Promise<HashMap> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-map-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const verified = { manifest: MANIFEST, bytes: INDEX.manifest, fetchedBytes: 0 };
  return new HashMap('the map', verified, new IndexDir(dir), source, options);
}

describe('HashMap', () => {
  test('a shard that nobody serves is requested once, given up, and named', { timeout: 180_000 }, async (t) => {
    const keepAlive = setInterval(() => undefined, 1_000);
    t.after(() => clearInterval(keepAlive));
    const source = new LateSource();
    const map = await mapOver(t, source, { shardTimeoutMs: 100 });
    const { signal } = new AbortController();
    const failure = { code: 'INDEX_UNREACHABLE', message: /shards\/all\.zst of the hash map the map within 0\.1 s/ };
    await Promise.all([TOP, LEAF, NOTE].map((hash) => assert.rejects(map.find(parseStoreHash(hash), signal), failure)));
    await assert.rejects(map.find(parseStoreHash(TOP), signal), failure);
    assert.deepEqual(source.asked, ['shards/all.zst'], 'the failure is remembered');
    await assert.rejects(map.fetchAll(signal), failure);
  });

  test('a record is at hand once its shard was read', async (t) => {
    const source = new LateSource();
    const map = await mapOver(t, source, {});
    const top = parseStoreHash(TOP);
    assert.equal(map.peek(top), undefined);
    source.answer.resolve(SHARD);
    const found = await map.find(top, new AbortController().signal);
    assert.deepEqual(map.peek(top), found);
    assert.equal(map.peek(parseStoreHash('0'.repeat(32))), 'absent');
  });

  test('an aborted lookup does not end the fetch for other lookups', async (t) => {
    const source = new LateSource();
    const map = await mapOver(t, source, {});
    const stop = new AbortController();
    const first = map.find(parseStoreHash(TOP), stop.signal);
    const second = map.find(parseStoreHash(LEAF), new AbortController().signal);
    stop.abort(new Error('enough'));
    await assert.rejects(first, /enough/);
    source.answer.resolve(SHARD);
    assert.match((await second)?.storePath ?? '', /leaf/);
    assert.equal(map.fetchedBytes, SHARD.length);
  });

  test('the end of the run ends its fetches', async (t) => {
    const run = new AbortController();
    const map = await mapOver(t, new LateSource(), { lifetime: run.signal });
    const found = map.find(parseStoreHash(TOP), new AbortController().signal);
    run.abort(new Error('interrupted'));
    await assert.rejects(found, /interrupted/);
  });

  test('drops unknown lines, and refuses more records than the manifest says', async (t) => {
    const { signal } = new AbortController();
    const junk = (info: NarInfo): NarInfo => ({ ...info, extra: [...info.extra, ['Junk', 'x'.repeat(1000)]] });
    const records = RECORDS.map(junk);
    const { manifest: bytes, shards } = await buildIndex({ ...GOLDEN, records });
    const manifest = parseManifest(bytes, { publicKey: KEY.publicKey, now: NOW });
    const source = { readFile: () => Promise.resolve(shards.get('')!) };
    const dir = new IndexDir(await tempDir(t));
    const map = new HashMap('the map', { manifest, bytes, fetchedBytes: 0 }, dir, source);
    const found = await map.find(parseStoreHash(TOP), signal);
    assert.deepEqual(found?.extra.map(([key]) => key).toSorted(), ['InfoHash', 'Pieces']);
    assert.equal(await countOf(map, signal), 3);

    const fewer = { manifest: { ...manifest, recordCount: 2 }, bytes, fetchedBytes: 0 };
    const lying = new HashMap('the map', fewer, dir, source);
    const failure = { code: 'INDEX_INVALID', message: 'the hash map the map has more than 2 records' };
    await assert.rejects(countOf(lying, signal), failure);
  });

  test('an invalid shard costs only its own records, and the error names the publisher', async (t) => {
    const records = syntheticRecords(900);
    const index = await buildIndex({ ...GOLDEN, records, roots: [] });
    const manifest = parseManifest(index.manifest, { publicKey: KEY.publicKey, now: NOW });
    const bad = zstdCompressSync(Buffer.alloc(40_000_000)); // larger than a shard may be
    const [first] = manifest.shards;
    const broken = { ...shardEntryOf(first!.prefix, bad) };
    const source: IndexSource = {
      readFile: (name) => {
        const prefix = /shards\/(.*)\.zst/.exec(name)?.[1] ?? '';
        return Promise.resolve(prefix === broken.prefix ? bad : index.shards.get(prefix)!);
      },
    };
    const shards = [broken, ...manifest.shards.slice(1)];
    const verified = { manifest: { ...manifest, shards }, bytes: index.manifest, fetchedBytes: 0 };
    const map = new HashMap('magnet:x', verified, new IndexDir(await tempDir(t)), source);
    const { signal } = new AbortController();
    let lost = 0;
    for (const { storePath } of records) {
      const hash = storeHashOf(storePath);
      const found = await map.find(hash, signal).catch((error: unknown) => error);
      if (!hash.startsWith(broken.prefix)) assert.equal((found as NarInfo).storePath, storePath);
      else
        assert.match((found as Error).message, /corrupt shard: not zstd of at most 33554432 bytes .publisher magnet:x/);
      if (hash.startsWith(broken.prefix)) lost++;
    }
    assert.ok(lost > 0 && lost < 100);
  });
});
