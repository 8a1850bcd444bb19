/** Lookups in a hash map whose source gives nothing, or gives it late. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { buildIndex } from '../../src/index/build.ts';
import { HashMap, type HashMapOptions, type IndexSource } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { GOLDEN, KEY, NOW } from './fixtures.ts';

const INDEX = buildIndex(GOLDEN);
const MANIFEST = parseManifest(INDEX.manifest, { publicKey: KEY.publicKey, now: NOW });
const SHARD = INDEX.shards.get('')!;

/** A source that gives nothing until it is told to. */
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

async function mapOver(t: TestContext, source: IndexSource, options: HashMapOptions): Promise<HashMap> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-map-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const verified = { manifest: MANIFEST, bytes: INDEX.manifest, fetchedBytes: 0 };
  return new HashMap('the map', verified, new IndexDir(dir), source, options);
}

describe('HashMap', () => {
  test('a shard that nobody serves is given up, asked for once, and named', { timeout: 5_000 }, async (t) => {
    const keepAlive = setInterval(() => undefined, 1_000);
    t.after(() => clearInterval(keepAlive));
    const source = new LateSource();
    const map = await mapOver(t, source, { shardTimeoutMs: 100 });
    const { signal } = new AbortController();
    const failure = { code: 'INDEX_UNREACHABLE', message: /shards\/all\.zst of the hash map the map in 0\.1 s/ };
    await Promise.all([TOP, LEAF, NOTE].map((hash) => assert.rejects(map.find(parseStoreHash(hash), signal), failure)));
    await assert.rejects(map.find(parseStoreHash(TOP), signal), failure);
    assert.deepEqual(source.asked, ['shards/all.zst'], 'the failure is remembered');
    await assert.rejects(map.whole(signal), failure);
  });

  test('who is not interested any more does not end the fetch for the others', async (t) => {
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

  test('the end of the run ends what is being fetched', async (t) => {
    const run = new AbortController();
    const map = await mapOver(t, new LateSource(), { lifetime: run.signal });
    const found = map.find(parseStoreHash(TOP), new AbortController().signal);
    run.abort(new Error('interrupted'));
    await assert.rejects(found, /interrupted/);
  });
});
