/**
 * Builds the next edition of a large hash map, in a process of its own: `node test/bench/rebuild.ts FOLDER GONE NEW`.
 *
 * FOLDER has the hash map, GONE is a file of the store hashes that are gone, NEW a folder of shards of new records. Prints
 * the seconds, the processor seconds and the peak memory as JSON.
 */
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildShards, signIndex } from '../../src/index/build.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { parseManifest } from '../../src/index/manifest.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { MAX_SHARD_TEXT_BYTES } from '../../src/index/format/limits.ts';
import { decodeShard, type ListedShard } from '../../src/index/format/shard.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';

const [folder = '', gone = '', fresh = ''] = process.argv.slice(2);
const key = publisherKeyFromSeed(new Uint8Array(32));
const dir = new IndexDir(folder);
const removed = new Set(
  (await readFile(gone, 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map(parseStoreHash),
);
const names = await readdir(fresh);
function* records(): Generator<NarInfo> {
  for (const name of names) {
    const shard = readFileSync(join(fresh, name)) as Uint8Array as ListedShard;
    for (const [, record] of decodeShard(shard, { maxBytes: MAX_SHARD_TEXT_BYTES })) yield record;
  }
}
const bytes = (await dir.readManifest()) ?? new Uint8Array();
const last = parseManifest(bytes, { publicKey: key.publicKey, now: new Date(), allowExpired: true });

const begin = performance.now();
const beginCpu = process.cpuUsage();
const built = await buildShards({ records: records(), removed, roots: last.roots, storeDir: last.storeDir }, last, dir);
const manifest = signIndex({ ...last, seq: last.seq + 1, key }, built);
await dir.writeManifest(manifest);
const { user, system } = process.cpuUsage(beginCpu);
console.log(
  JSON.stringify({
    records: built.recordCount,
    seconds: (performance.now() - begin) / 1000,
    cpuSeconds: (user + system) / 1e6,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
