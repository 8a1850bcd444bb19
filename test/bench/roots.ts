/**
 * Measures what a follower of one named root reads of a hash map: `npm run bench:roots`, see `--help`.
 *
 * The hash map has a root of 2,000 paths and as many others as asked for (10,000 and 1,000,000 by default). A follower looks
 * up the root and its closure, and then the closure of the next edition, in which 5 % of the root's paths are new: random
 * ones, or those at its top, as after a change of some packages. The edition is built from the changes alone. Bytes are
 * those of the manifest and the files that the follower lacks.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { buildShards, signIndex, type BuiltShards } from '../../src/index/build.ts';
import { HashMap } from '../../src/index/hash-map.ts';
import { IndexDir } from '../../src/index/files/index-dir.ts';
import { NOT_HERE } from '../../src/index/files/not-here.ts';
import { parseManifest, type Manifest } from '../../src/index/manifest.ts';
import { publisherKeyFromSeed } from '../../src/index/publisher-key.ts';
import { encodeShard } from '../../src/index/format/shard.ts';
import type { StoreHash } from '../../src/nix/brands.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { Closure } from './closure-records.ts';
import { countOf } from './option-values.ts';
import { syntheticRecords } from './records.ts';

const ROOT_PATHS = 2_000;
const CHANGED = 0.05;
const EDITIONS = 24;
const CREATED = new Date('2026-01-01T00:00:00Z');
const EXPIRES = new Date('2026-01-15T00:00:00Z');
const KEY = publisherKeyFromSeed(new Uint8Array(32));
const { signal } = new AbortController();

/** Multiples of the compressed size of the root's records; seconds and bytes for the largest hash map. */
const WANTED = { index: 1.5, change: 0.08, seconds: 15, peakBytes: 400e6 };
const LARGEST = 1_000_000;
/** New records of a file. */
const NEW_AT_ONCE = 1_000;

const HELP = `Usage: npm run bench:roots -- [options]

What a follower of one named root of ${ROOT_PATHS} paths reads of a hash map, and how long an edition takes to build. With a million
records it takes ten minutes.

  --records N   records besides those of the root (default: 10000, then ${LARGEST})
  --json        print JSON instead of a table
  --help
`;

/** A publisher's hash map on the disk. */
class Published {
  readonly dir: IndexDir;
  manifest: Manifest | undefined;
  bytes: Uint8Array = new Uint8Array();
  #seq = 0;

  constructor(dir: string) {
    this.dir = new IndexDir(dir);
  }

  async build(
    records: readonly NarInfo[],
    removed: ReadonlySet<StoreHash>,
    root?: NarInfo['storePath'],
  ): Promise<BuiltShards> {
    const roots = root === undefined ? [] : [{ name: 'desktop', path: root }];
    const built = await buildShards({ records, roots, removed, storeDir: '/nix/store' }, this.manifest, this.dir);
    const parts = { salt: '', seq: ++this.#seq, created: CREATED, expires: EXPIRES, storeDir: '/nix/store' };
    this.bytes = signIndex({ ...parts, peers: [], trackers: [], key: KEY }, built);
    this.manifest = parseManifest(this.bytes, { publicKey: KEY.publicKey, now: CREATED });
    await this.dir.writeManifest(this.bytes);
    return built;
  }
}

/** Looks a closure up as a walk does. @returns the bytes that were not in the follower's folder */
async function follow(published: Published, folder: string, closure: Closure): Promise<number> {
  const source = {
    readFile: async (name: string) => (await published.dir.read(name)) ?? Promise.reject(new Error(`no ${name}`)),
  };
  const { manifest, bytes } = published;
  const map = new HashMap(
    'it',
    { manifest: manifest!, bytes, fetchedBytes: bytes.length },
    new IndexDir(folder),
    source,
  );
  const seen = new Set([storeHashOf(closure.root)]);
  for (const hash of seen) {
    const record = await map.find(hash, signal);
    if (record === undefined) throw new Error(`no record of ${hash}`);
    for (const name of record.references) seen.add(name.slice(0, 32) as StoreHash);
  }
  if (seen.size !== closure.records.length) throw new Error(`${seen.size} paths`);
  return map.fetchedBytes;
}

/** Builds an edition in which 5 % of all records are new, in a process of its own. */
async function rebuild({
  dir,
  manifest,
  bytes,
}: Published): Promise<{ seconds: number; cpuSeconds: number; peakBytes: number }> {
  const map = new HashMap('it', { manifest: manifest!, bytes, fetchedBytes: 0 }, dir, NOT_HERE);
  const gone: string[] = [];
  let count = 0;
  for await (const hash of map.storeHashes(signal)) if (count++ % Math.round(1 / CHANGED) === 0) gone.push(hash);
  const file = join(dir.dir, 'gone');
  await writeFile(file, gone.join('\n'));
  const fresh = join(dir.dir, 'new');
  await mkdir(fresh);
  for (let part = 0; part < gone.length; part += NEW_AT_ONCE) {
    const records = syntheticRecords(Math.min(NEW_AT_ONCE, gone.length - part), { seed: 9_000 + part });
    await writeFile(join(fresh, String(part)), encodeShard(records));
  }
  const program = fileURLToPath(new URL('rebuild.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, dir.dir, file, fresh]);
  return JSON.parse(stdout) as { seconds: number; cpuSeconds: number; peakBytes: number };
}

const { values } = parseArgs({
  options: { records: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean' } },
});
if (values.help === true) {
  console.log(HELP);
  process.exit();
}
const sizes = values.records === undefined ? [10_000, LARGEST] : [countOf('records', values.records)];
const figures = [];
const lines: string[] = [];
const check = (isMet: boolean, what: string): void => void lines.push(`${isMet ? 'met' : 'MISSED'}: ${what}`);
for (const size of sizes) {
  const base = await mkdtemp(join(tmpdir(), 'narswarm-roots-'));
  try {
    const published = new Published(join(base, 'published'));
    const begin = performance.now();
    const batch = Math.ceil(size / 32);
    for (const [index, firstCharacter] of '0123456789abcdfghijklmnpqrsvwxyz'.split('').entries())
      await published.build(syntheticRecords(batch, { seed: 7_000 + index, firstCharacter }), new Set());
    const buildS = (performance.now() - begin) / 1000;
    for (const kind of ['whole', 'same', 'random'] as const) {
      process.stderr.write(`${size} records, changes: ${kind}\n`);
      const closure = new Closure(ROOT_PATHS, 1);
      await published.build(closure.records, new Set(), closure.root);
      const ownBytes = encodeShard(closure.records).length;
      const readBytes = await follow(published, join(base, `${kind}-0`), closure);
      const changes: number[] = [];
      let worst = readBytes / ownBytes;
      for (let edition = 1; edition <= EDITIONS; edition++) {
        const { added, removed } = closure.change(CHANGED, kind);
        const files = await published.build(added, new Set(removed.map(storeHashOf)), closure.root);
        await published.dir.removeOthers(files.files);
        changes.push((await follow(published, join(base, `${kind}-0`), closure)) / encodeShard(closure.records).length);
        if (edition % 8 !== 0) continue;
        const fresh = await follow(published, join(base, `${kind}-${edition}`), closure);
        worst = Math.max(worst, fresh / encodeShard(closure.records).length);
      }
      const mean = changes.reduce((sum, one) => sum + one, 0) / changes.length;
      figures.push({
        records: size,
        change: kind,
        ownBytes,
        readBytes,
        index: (readBytes / ownBytes).toFixed(3),
        worstIndex: worst.toFixed(3),
        firstChange: changes[0]!.toFixed(4),
        meanChange: mean.toFixed(4),
        worstChange: Math.max(...changes).toFixed(4),
        buildS: Math.round(buildS),
      });
      check(worst <= WANTED.index, `${size} records, ${kind}: index at most ${WANTED.index}, got ${worst.toFixed(2)}`);
      check(
        Math.max(...changes) <= WANTED.change,
        `a change at most ${WANTED.change}, got ${Math.max(...changes).toFixed(3)}`,
      );
      await published.build([], new Set(closure.records.map(({ storePath }) => storeHashOf(storePath))));
    }
    const { seconds, cpuSeconds, peakBytes } = await rebuild(published);
    const got = `${seconds.toFixed(1)} s (${cpuSeconds.toFixed(1)} s of a processor), ${Math.round(peakBytes / 1e6)} MB`;
    check(
      seconds <= WANTED.seconds && peakBytes <= WANTED.peakBytes,
      `${size} records, 5 % of them new: built in ${WANTED.seconds} s and ${WANTED.peakBytes / 1e6} MB, got ${got}`,
    );
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}
if (values.json === true) console.log(JSON.stringify(figures));
else console.table(figures);
console.log(lines.join('\n'));
