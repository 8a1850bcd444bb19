/** Publishers whose hash maps cannot be read do not delay a path about which others agree. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { formatPublisherAddress } from '../../src/index/address.ts';
import { buildIndex } from './built-index.ts';
import { HashMap, type IndexSource } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { Quorum } from '../../src/index/quorum.ts';
import { shardFileName } from '../../src/index/format/shard.ts';
import { syntheticRecords } from '../bench/records.ts';
import { tempDir } from '../store/store-fixture.ts';
import { GOLDEN, KEY, NOW } from './fixtures.ts';

const records = syntheticRecords(900);
const { manifest: bytes, shards } = await buildIndex({ ...GOLDEN, records, roots: [] });
const manifest = parseManifest(bytes, { publicKey: KEY.publicKey, now: NOW });
const files = new Map(Array.from(shards, ([prefix, shard]) => [shardFileName(prefix), shard]));
const good: IndexSource = { readFile: (name) => Promise.resolve(files.get(name)!) };
const { signal } = new AbortController();

async function mapOf(t: TestContext, publisher: number, source: IndexSource): Promise<HashMap> {
  const name = formatPublisherAddress({ publicKeyHex: String(publisher).repeat(64), salt: '' });
  const dir = new IndexDir(await tempDir(t));
  return new HashMap(name, { manifest, bytes, fetchedBytes: 0 }, dir, source, { shardTimeoutMs: 50 });
}

test('a publisher whose shards nobody sends is asked about later paths only if it is needed', async (t) => {
  const keepAlive = setInterval(() => undefined, 1_000);
  t.after(() => clearInterval(keepAlive));
  const asked: string[] = [];
  const silent: IndexSource = {
    readFile: (name, options) => {
      asked.push(name);
      return new Promise((_, reject) => {
        options.signal.addEventListener('abort', () => reject(options.signal.reason as Error));
      });
    },
  };
  const maps = [await mapOf(t, 1, silent), await mapOf(t, 2, good), await mapOf(t, 3, good)];
  const quorum = new Quorum(2, maps.length, () => Promise.resolve(maps));
  for (const record of records.slice(0, 50)) await quorum.confirm(record, signal);
  assert.equal(asked.length, 1);

  const more = new Quorum(3, maps.length, () => Promise.resolve(maps));
  for (const record of records.slice(0, 50))
    await assert.rejects(more.confirm(record, signal), { code: 'QUORUM_MISSED' });
  assert.ok(asked.length > 1);
});
