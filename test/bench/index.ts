/**
 * Measures the hash map: `node test/bench/index.ts [--json]`. Builds and signs one of 100,000 records, then does what a
 * client does that wants ten paths of it: reads the manifest, and checks and decodes ten shards.
 */
import { buildIndex } from '../index/built-index.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { torrentOfRecord } from '../../src/index/record.ts';
import { decodePrefixList } from '../../src/index/format/shard-list.ts';
import { assertShard, decodeShard, shardPrefix } from '../../src/index/format/shard.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { syntheticRecords } from './records.ts';

const RECORDS = 100_000;
const LOOKUPS = 10;
const MAX_SHARD_BYTES = 64 * 1024 * 1024;
const CREATED = new Date('2026-01-01T00:00:00Z');
const EXPIRES = new Date('2026-01-15T00:00:00Z');

const key = publisherKeyFromSeed(new Uint8Array(32));
const records = syntheticRecords(RECORDS);
const wanted = records.filter((_, index) => index % (RECORDS / LOOKUPS) === 0);

const buildStart = performance.now();
const { manifest: signed, shards } = await buildIndex({
  records,
  key,
  salt: '',
  seq: 1,
  created: CREATED,
  expires: EXPIRES,
  storeDir: '/nix/store',
  roots: [],
  peers: [],
  trackers: [],
});
const buildMs = performance.now() - buildStart;

const lookupStart = performance.now();
const manifest = parseManifest(signed, { publicKey: key.publicKey, now: CREATED });
const lists = manifest.shards.map(
  (list) => [list, decodePrefixList(shards.get(list.prefix)!, list, manifest.prefixLength)] as const,
);
const entries = new Map(lists.flatMap(([, listed]) => listed.map((entry) => [entry.prefix, entry] as const)));
let fetchedBytes = signed.length + lists.reduce((sum, [{ sizeBytes }]) => sum + sizeBytes, 0);
for (const { storePath } of wanted) {
  const storeHash = storeHashOf(storePath);
  const prefix = shardPrefix(storeHash, manifest.prefixLength);
  const [entry, bytes] = [entries.get(prefix), shards.get(prefix)];
  if (entry === undefined || bytes === undefined) throw new Error(`no shard ${prefix}`);
  assertShard(entry, bytes);
  const record = decodeShard(bytes, { maxBytes: MAX_SHARD_BYTES }).get(storeHash);
  if (record === undefined || torrentOfRecord(record) === undefined) throw new Error(`no torrent of ${storePath}`);
  fetchedBytes += bytes.length;
}
const lookupMs = performance.now() - lookupStart;

const wholeStart = performance.now();
const decoded = Array.from(
  entries.keys(),
  (prefix) => decodeShard(shards.get(prefix)!, { maxBytes: MAX_SHARD_BYTES }).size,
);
const wholeMs = performance.now() - wholeStart;

const shardBytes = Array.from(shards.values(), (bytes) => bytes.length).reduce((sum, bytes) => sum + bytes, 0);
const figures = {
  recordCount: decoded.reduce((sum, count) => sum + count, 0),
  shardCount: entries.size,
  meanRecordsPerShard: Math.round(RECORDS / entries.size),
  buildAndSignMs: Math.round(buildMs),
  manifestBytes: signed.length,
  shardBytes,
  lookups: LOOKUPS,
  lookupBytes: fetchedBytes,
  lookupMs: Math.round(lookupMs),
  decodeAllMs: Math.round(wholeMs),
  peakRssBytes: process.resourceUsage().maxRSS * 1024,
};
if (process.argv.includes('--json')) console.log(JSON.stringify(figures));
else console.table(figures);
