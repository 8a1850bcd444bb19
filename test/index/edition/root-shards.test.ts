/** Named roots have shards of their own: what their followers read, and what editions share. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, utimes } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { buildShards } from '../../../src/index/build.ts';
import { editionFiles } from '../../../src/index/files/edition-files.ts';
import { HashMap } from '../../../src/index/hash-map.ts';
import { IndexDir } from '../../../src/index/files/index-dir.ts';
import { KeptMaps } from '../../../src/index/files/kept-maps.ts';
import { parseManifest, type Manifest } from '../../../src/index/manifest.ts';
import { planRootShards, ROOT_SHARD_RECORDS } from '../../../src/index/edition/root-shards.ts';
import { decodeRootList, encodeRootList, type RootShard } from '../../../src/index/format/shard-list.ts';
import { ShardFiles } from '../../../src/index/files/shard-files.ts';
import {
  compressFile,
  fileEntryOf,
  fileNameOf,
  shardEntryOf,
  type FileEntry,
  type ListedShard,
} from '../../../src/index/format/shard.ts';
import type { StoreHash } from '../../../src/nix/brands.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { baseNameOf, storeHashOf, storePathFromBaseName } from '../../../src/nix/store-path.ts';
import { Closure } from '../../bench/closure-records.ts';
import { syntheticRecords } from '../../bench/records.ts';
import { failsWith } from '../../nix/fixtures.ts';
import { tempDir } from '../../store/store-fixture.ts';
import { buildIndex, type BuiltIndex } from '../built-index.ts';
import { GOLDEN, KEY, NOW } from '../fixtures.ts';

const { signal } = new AbortController();
const OTHERS = syntheticRecords(800, { seed: 5 }).map((record) => Object.assign(record, { references: [] }));
const hashOf = ({ storePath }: Pick<NarInfo, 'storePath'>): StoreHash => storeHashOf(storePath);
const manifestOf = ({ manifest }: BuiltIndex): Manifest =>
  parseManifest(manifest, { publicKey: KEY.publicKey, now: NOW });

/** A hash map of a closure with a name and of other paths, as a follower with its own folder reads it. */
class Follower {
  readonly dir: IndexDir;
  /** Names of the files that were fetched from the edition. */
  fetched: string[] = [];

  constructor(dir: string) {
    this.dir = new IndexDir(dir);
  }

  static async open(t: TestContext): Promise<Follower> {
    return new Follower(await tempDir(t));
  }

  map(index: BuiltIndex, manifest = manifestOf(index), files: ReadonlyMap<string, Uint8Array> = index.files): HashMap {
    this.fetched = [];
    const readFile = (name: string): Promise<Uint8Array> => {
      this.fetched.push(name);
      const bytes = files.get(name);
      return bytes === undefined ? Promise.reject(new Error(`no ${name}`)) : Promise.resolve(bytes);
    };
    return new HashMap('it', { manifest, bytes: index.manifest, fetchedBytes: 0 }, this.dir, { readFile });
  }

  /** Looks up a closure. @returns its records */
  async walk(map: HashMap, root: NarInfo['storePath']): Promise<NarInfo[]> {
    const records: NarInfo[] = [];
    const seen = new Set([storeHashOf(root)]);
    for (const hash of seen) {
      const record = await map.find(hash, signal);
      assert.ok(record !== undefined, hash);
      records.push(record);
      for (const name of record.references) seen.add(name.slice(0, 32) as StoreHash);
    }
    return records;
  }
}

const build = (closure: Closure, last?: BuiltIndex, changes: Partial<Parameters<typeof buildIndex>[0]> = {}) =>
  buildIndex(
    {
      ...GOLDEN,
      records: [...closure.records, ...OTHERS],
      roots: [{ name: 'desktop', path: closure.root }],
      ...changes,
    },
    last,
  );
const byHash = (records: readonly NarInfo[]): NarInfo[] => records.toSorted((a, b) => (hashOf(a) < hashOf(b) ? -1 : 1));

/** Returns all records of an edition. */
async function recordsOf(index: BuiltIndex, follower: Follower): Promise<NarInfo[]> {
  const map = follower.map(index);
  const records: NarInfo[] = [];
  for await (const hash of map.storeHashes(signal)) records.push((await map.find(hash, signal))!);
  return byHash(records);
}

describe('the shards of a named root', () => {
  test('who walks the root reads its list and its shards, and nothing else', async (t) => {
    const closure = new Closure(600, 1);
    const index = await build(closure);
    const follower = await Follower.open(t);
    const map = follower.map(index);
    assert.deepEqual(byHash(await follower.walk(map, closure.root)), byHash(closure.records));
    const { list } = manifestOf(index).roots[0]!;
    const shards = decodeRootList(index.files.get(fileNameOf(list!))!);
    assert.deepEqual(follower.fetched.toSorted(), [list!, ...shards].map(fileNameOf).toSorted());
    assert.equal(map.peek(hashOf(closure.records[5]!)) === undefined, false);
  });

  test('a store that has read one root knows the records of that root', async (t) => {
    const closure = new Closure(600, 1);
    const index = await build(closure);
    const stateDir = await tempDir(t);
    const follower = new Follower(join(stateDir, 'index', 'map'));
    await follower.walk(follower.map(index), closure.root);
    await follower.dir.writeManifest(index.manifest);
    const kept = new KeptMaps(stateDir);
    assert.deepEqual(await kept.find(hashOf(closure.records[5]!)), [closure.records[5]]);
    assert.deepEqual(await kept.find(hashOf(OTHERS[5]!)), []);
  });

  test('a look-up of any path finds its record, in the root or outside, in the fewest files', async (t) => {
    const closure = new Closure(1_200, 1);
    const index = await build(closure);
    const follower = await Follower.open(t);
    const map = follower.map(index);
    assert.deepEqual(await map.find(hashOf(OTHERS[7]!), signal), OTHERS[7]);
    assert.deepEqual(follower.fetched, [`shards/${hashOf(OTHERS[7]!)[0]}.zst`]);
    const inRoot = closure.records[9]!;
    assert.equal(map.peek(hashOf(inRoot)), undefined);
    assert.deepEqual(await follower.map(index).find(hashOf(inRoot), signal), inRoot);
    assert.ok(follower.fetched.length <= 3, `a shard, a list and a shard: ${follower.fetched.join(' ')}`);
    assert.equal(await map.find('0'.repeat(32) as StoreHash, signal), undefined);
    assert.equal((await recordsOf(index, follower)).length, 2_000);
  });

  test('roots share the records that they have in common', async (t) => {
    const [closure, other] = [new Closure(600, 1), syntheticRecords(1, { seed: 6 })[0]!];
    const second = { ...other, references: [baseNameOf(closure.records[1]!.storePath)] };
    const roots = [
      { name: 'desktop', path: closure.root },
      { name: 'laptop', path: second.storePath },
    ];
    const records = [...closure.records, second, ...OTHERS];
    const index = await buildIndex({ ...GOLDEN, records, roots });
    const follower = await Follower.open(t);
    assert.deepEqual(await recordsOf(index, follower), byHash(records));
    for (const { path } of roots) await follower.walk(follower.map(index), path);
    assert.ok(!follower.fetched.some((name) => name.length < 20), 'only shards of the roots');
    let stored = 0;
    for (const [name, bytes] of index.files) if (name.length > 20) stored += bytes.length;
    let alone = 0;
    for (const [name, bytes] of (await build(closure)).files) if (name.length > 20) alone += bytes.length;
    assert.ok(stored < alone * 1.3, `${stored} bytes for both roots, ${alone} for one`);
  });

  test('the same parts on top of their own edition change nothing', async () => {
    const closure = new Closure(600, 1);
    const first = await build(closure);
    closure.change(0.05, 'random');
    const second = await build(closure, first);
    assert.deepEqual(await build(closure, second), second);
    assert.notDeepEqual(second.manifest, first.manifest);
  });

  test('a follower of the last edition fetches new records alone, also of shards that are written again', async (t) => {
    const closure = new Closure(1_000, 1);
    let index = await build(closure);
    const follower = await Follower.open(t);
    await follower.walk(follower.map(index), closure.root);
    let isMade = false;
    for (let edition = 0; edition < 5; edition++) {
      closure.change(0.05, 'random');
      index = await build(closure, index);
      const map = follower.map(index);
      assert.deepEqual(byHash(await follower.walk(map, closure.root)), byHash(closure.records));
      assert.equal(follower.fetched.length, 2, 'a list and a shard');
      const list = decodeRootList(index.files.get(fileNameOf(manifestOf(index).roots[0]!.list!))!);
      isMade ||= list.some(({ sources }) => sources.length > 0);
      const bytes = list.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const fresh = (await build(closure)).files;
      let whole = 0;
      for (const [name, file] of fresh) if (name.length > 20) whole += file.length;
      assert.ok(bytes < whole * 1.3, `${bytes} bytes, ${whole} if all are new`);
    }
    assert.ok(isMade, 'some shards were written again');
    const late = await Follower.open(t);
    assert.deepEqual(byHash(await late.walk(late.map(index), closure.root)), byHash(closure.records));
  });

  test('records that are gone or have changed are not found in the shards that still have them', async (t) => {
    const closure = new Closure(600, 1);
    const first = await build(closure);
    const changed = closure.records.at(-1)!; // stays
    const gone = closure.change(0.02, 'same').removed.map(storeHashOf);
    const now = { ...changed, narSize: changed.narSize + 1 };
    const records = [...closure.records.filter((record) => hashOf(record) !== hashOf(now)), now, ...OTHERS];
    const second = await buildIndex({ ...GOLDEN, records, roots: [{ name: 'desktop', path: closure.root }] }, first);
    const follower = await Follower.open(t);
    const map = follower.map(second);
    await map.find(hashOf(closure.records[0]!), signal);
    assert.deepEqual(await map.find(hashOf(now), signal), now);
    for (const hash of gone) assert.equal(await map.find(hash, signal), undefined);
    assert.equal((await recordsOf(second, follower)).length, 1_400);
  });

  test('a build of the changes alone gives the records of a build of all', async (t) => {
    const closure = new Closure(600, 1);
    const first = await build(closure);
    const { added, removed } = closure.change(0.1, 'whole');
    const left = OTHERS.slice(0, -3);
    const gone = [...removed.map(storeHashOf), ...OTHERS.slice(-3).map(hashOf)];
    const changes = { records: [...added], removed: new Set(gone) };
    const follower = await Follower.open(t);
    const all = byHash([...closure.records, ...left]);
    const second = await build(closure, first, changes);
    assert.deepEqual(await recordsOf(second, follower), all);
    assert.equal(manifestOf(second).recordCount, all.length);
    const without = await build(closure, second, { records: [], removed: new Set(), roots: [] });
    assert.deepEqual(await recordsOf(without, follower), all);
    assert.ok(![...without.files.keys()].some((name) => name.length > 20));
    const named = await build(closure, without, { records: [], removed: new Set() });
    assert.deepEqual(await recordsOf(named, follower), all);
    assert.ok([...named.files.keys()].some((name) => name.length > 20));
  });

  test('shards of another prefix length are divided again', async (t) => {
    const closure = new Closure(600, 1);
    const small = await buildIndex({ ...GOLDEN, records: closure.records, roots: [] });
    assert.deepEqual([...small.shards.keys()], ['']);
    const grown = await build(closure, small, { records: OTHERS, removed: new Set() });
    assert.equal(manifestOf(grown).prefixLength, 1);
    const follower = await Follower.open(t);
    assert.deepEqual(await recordsOf(grown, follower), byHash([...closure.records, ...OTHERS]));
    const shrunk = await build(closure, grown, { records: OTHERS.slice(0, 10), roots: [] });
    assert.deepEqual(await recordsOf(shrunk, follower), byHash(OTHERS.slice(0, 10)));
  });

  test('a hash map of many records names lists of shards', async (t) => {
    const closure = new Closure(600, 1);
    const bare = { ...OTHERS[0]!, extra: [] };
    const many = Array.from({ length: 23_000 }, (_, number) => {
      const digest = createHash('sha256').update(`${number}`).digest();
      return { ...bare, storePath: storePathFromBaseName(`${encodeNix32(digest.subarray(0, 20))}-${number}`) };
    });
    const index = await build(closure, undefined, { records: [...closure.records, ...many] });
    const manifest = manifestOf(index);
    assert.deepEqual([manifest.prefixLength, manifest.shards.length], [2, 32]);
    const follower = await Follower.open(t);
    const map = follower.map(index);
    const wanted = many[77]!;
    const prefix = hashOf(wanted).slice(0, 2);
    assert.equal(map.peek(hashOf(wanted)), undefined);
    assert.deepEqual(await map.find(hashOf(wanted), signal), wanted);
    assert.deepEqual(follower.fetched, [`shards/${prefix[0]}.zst`, `shards/${prefix}.zst`]);
    assert.deepEqual(map.peek(hashOf(wanted)), wanted);
    assert.equal((await recordsOf(index, follower)).length, 23_600);
    await map.fetchAll(signal);
    const all: string[] = [];
    const read = (entry: FileEntry): Promise<ListedShard> => Promise.resolve(index.files.get(fileNameOf(entry))!);
    for await (const entry of editionFiles(manifest, read)) all.push(fileNameOf(entry));
    assert.deepEqual(all.toSorted(), [...index.files.keys()].toSorted());
    for (const name of all) assert.deepEqual(await follower.dir.read(name), index.files.get(name));
  });
});

test('a shard that is made here counts only if it is the one that the list names', async (t) => {
  const closure = new Closure(600, 1);
  const index = await build(closure);
  const follower = await Follower.open(t);
  await follower.walk(follower.map(index), closure.root);
  const manifest = manifestOf(index);
  const [shard, other] = decodeRootList(index.files.get(fileNameOf(manifest.roots[0]!.list!))!);
  assert.ok(shard !== undefined && other !== undefined);
  const lie: RootShard = { ...shard, sha256: '1'.repeat(52), sources: [{ sha256: other.sha256, live: undefined }] };
  const list = encodeRootList([lie, other]);
  const entry = fileEntryOf(list);
  const lying = { ...manifest, roots: [{ ...manifest.roots[0]!, list: entry }] };
  const files = new Map<string, Uint8Array>([...index.files, [fileNameOf(entry), list]]);
  const map = follower.map(index, lying, files);
  const hash = closure.records.map(hashOf).find((one) => one >= shard.first && one.slice(0, 6) <= shard.last)!;
  await map.find(storeHashOf(closure.root), signal).catch(() => undefined);
  await map.find(hash, signal).catch(() => undefined);
  assert.ok(follower.fetched.includes(`shards/${'1'.repeat(52)}.zst`), 'it was asked for');
  assert.equal(await follower.dir.read(`shards/${'1'.repeat(52)}.zst`), undefined);
});

test('of the sources of a shard, no more is held in memory than a shard may have', async () => {
  const long = OTHERS.slice(0, 8).map(hashOf).toSorted();
  const shards = long.map((hash) => {
    const text = `StorePath: ${storePathFromBaseName(`${hash}-x`)}\nX: ${'x'.repeat(20 * 1024 * 1024)}\n`;
    return compressFile(Buffer.from(text));
  });
  const kept = new Map(shards.map((bytes) => [fileEntryOf(bytes).sha256, bytes]));
  const read: string[] = [];
  const dir = {
    readShard: ({ sha256 }: FileEntry) => {
      read.push(sha256);
      return Promise.resolve(kept.get(sha256));
    },
    writeShard: () => Promise.resolve(),
  };
  const files = new ShardFiles('it', dir, { readFile: () => Promise.reject(new Error('nobody has it')) }, {});
  const sources = [...kept.keys()].map((sha256) => ({ sha256, live: undefined }));
  const entry: RootShard = {
    sha256: '1'.repeat(52),
    sizeBytes: 7,
    first: '000000',
    last: 'zzzzzz',
    live: undefined,
    sources,
  };
  await assert.rejects(files.records(entry), /nobody has it/);
  assert.deepEqual(read, [entry.sha256, ...sources.slice(0, 2).map(({ sha256 }) => sha256)]);
});

/** The files of an edition, each with the bytes of its own. */
async function filesOf(t: TestContext, all: readonly Uint8Array[]): Promise<ShardFiles> {
  const byName = new Map(all.map((bytes) => [fileNameOf(fileEntryOf(bytes)), bytes]));
  const readFile = (name: string): Promise<Uint8Array> => Promise.resolve(byName.get(name)!);
  return new ShardFiles('it', new IndexDir(await tempDir(t)), { readFile }, {});
}

test('a shard whose list names a source that is no shard is fetched', async (t) => {
  const [source, shard] = [compressFile(Buffer.from('no shard')), compressFile(Buffer.from('a shard'))];
  const files = await filesOf(t, [source, shard]);
  await files.load(fileEntryOf(source));
  const entry = { ...fileEntryOf(shard), sources: [{ sha256: fileEntryOf(source).sha256, live: undefined }] };
  assert.deepEqual(new Uint8Array(await files.load(entry)), new Uint8Array(shard));
});

test('a reader keeps lists of a bounded size, however many roots there are', async (t) => {
  const line = `000000 zzzzzz 1 1${'0'.repeat(51)} ${'A'.repeat(8_000)}\n`.repeat(500);
  const lists = Array.from({ length: 5 }, (_, index) =>
    zstdCompressSync(Buffer.from(line.replace('000000', `00000${index}`))),
  );
  const files = await filesOf(t, lists);
  for (const list of lists.slice(0, 4)) assert.equal((await files.list(fileEntryOf(list), decodeRootList)).length, 500);
  await assert.rejects(
    files.list(fileEntryOf(lists[4]!), decodeRootList),
    failsWith('INDEX_INVALID', /lists of shards/),
  );
});

test('a reader fetches no more bytes of an edition than a hash map may have, whichever roots it looks up', async (t) => {
  const [one, other] = [Buffer.from('one'), Buffer.from('other')];
  const files = await filesOf(t, [one, other]);
  files.fetchedBytes = 640 * 2 ** 20 - one.length;
  await files.load(fileEntryOf(one));
  await files.load(fileEntryOf(one)); // from the folder
  await assert.rejects(files.load(fileEntryOf(other)), failsWith('INDEX_INVALID', /more than 671088640 bytes/));
});

test('shards of earlier editions go after a month, and before it if they are too many', async (t) => {
  const dir = new IndexDir(await tempDir(t));
  const days = [0, 1, 2, 30, 32];
  const names: string[] = [];
  for (const age of days) {
    const bytes = Buffer.from(`used ${age} days ago`.padEnd(100));
    const entry = fileEntryOf(bytes);
    names.push(fileNameOf(entry));
    await dir.writeShard(entry, bytes);
    const at = new Date(NOW.getTime() - age * 86_400_000);
    await utimes(join(dir.dir, fileNameOf(entry)), at, at);
  }
  const left = async (): Promise<number[]> => {
    const there = await readdir(join(dir.dir, 'shards'));
    return days.filter((_, index) => there.includes(basename(names[index]!)));
  };
  await dir.removeUnused(NOW);
  assert.deepEqual(await left(), [0, 1, 2, 30]);
  await dir.removeUnused(NOW, 250);
  assert.deepEqual(await left(), [0, 1]);
});

describe('lists of shards', () => {
  const sha256 = `1${'0'.repeat(51)}`;
  const listOf = (text: string): ListedShard => zstdCompressSync(Buffer.from(text)) as Uint8Array as ListedShard;
  const lineOf = (sizeBytes: number, more = ''): string => `000000 zzzzzz ${sizeBytes} ${sha256} *${more}\n`;

  test('are read as they are written', () => {
    const shards: RootShard[] = [
      { first: '012345', last: 'zzzzzz', sizeBytes: 7, sha256, live: undefined, sources: [] },
      {
        first: '012345',
        last: '012345',
        sizeBytes: 9,
        sha256,
        live: Uint8Array.of(5, 255),
        sources: [
          { sha256, live: Uint8Array.of(128) },
          { sha256, live: undefined },
        ],
      },
    ];
    assert.deepEqual(decodeRootList(encodeRootList(shards)), shards);
    assert.deepEqual(decodeRootList(encodeRootList([])), []);
  });

  test('refuse anything else, and more than a follower takes', () => {
    const cases = [
      ['\n', /is not <first>/],
      [lineOf(0), /a whole number/],
      [lineOf(17 * 2 ** 20), /a whole number/],
      [lineOf(1, ` ${sha256}`), /is not <sha256>:<bits>/],
      [lineOf(1, ` ${sha256}:*`.repeat(17)), /more than 16 others/],
      [lineOf(1).repeat(16_385), /more than 16384 shards/],
      [lineOf(16 * 2 ** 20).repeat(41), /more than 671088640 bytes/],
    ] as const;
    for (const [text, reason] of cases)
      assert.throws(() => decodeRootList(listOf(text)), failsWith('INDEX_INVALID', reason));
    assert.throws(
      () => decodeRootList(listOf('\n'.repeat(5_000_000))),
      failsWith('INDEX_INVALID', /not zstd of at most/),
    );
    assert.equal(decodeRootList(listOf(lineOf(1, ` ${sha256}:*`.repeat(16))))[0]!.sources.length, 16);
  });

  test('an edition has no more bytes than a hash map may have, whatever its lists say', async () => {
    const lists = Array.from({ length: 3 }, (_, index) => {
      const lines = Array.from({ length: 14 }, (_unused, line) =>
        lineOf(16 * 2 ** 20).replace(sha256, `1${String(index * 100 + line).padStart(51, '0')}`),
      );
      return listOf(lines.join(''));
    });
    const manifest = {
      roots: lists.map((list, index) => ({ ...GOLDEN.roots[0]!, name: `r${index}`, list: fileEntryOf(list) })),
      shards: [shardEntryOf('', lists[0]!)],
      prefixLength: 0,
    };
    const files = new Map(lists.map((list) => [fileEntryOf(list).sha256, list]));
    const all = async (): Promise<void> => {
      for await (const _ of editionFiles(manifest, ({ sha256: name }) => Promise.resolve(files.get(name))));
    };
    await assert.rejects(all(), failsWith('INDEX_INVALID', /more than 671088640 bytes/));
  });
});

test('a large closure has shards of even sizes, and small groups of the same roots are joined', () => {
  const hash = (number: number): StoreHash => String(number).padStart(32, '0') as StoreHash;
  const membership = new Map(Array.from({ length: 1_025 }, (_, number) => [hash(number), [0]]));
  const { made } = planRootShards(membership, [], 1);
  assert.deepEqual(
    made.map(({ hashes }) => hashes.length),
    [342, 341, 342],
  );
  assert.ok(made.every(({ hashes, from }) => hashes.length <= ROOT_SHARD_RECORDS && from.length === 0));
});

test('a last edition with damaged files does not keep a publisher from building', async () => {
  const closure = new Closure(600, 1);
  const first = await build(closure);
  const damaged = new Map(Array.from(first.files, ([name, bytes]) => [name, bytes.subarray(1) as ListedShard]));
  const second = await build(closure, { ...first, files: damaged });
  assert.deepEqual(second.files, first.files);
  const parts = { records: [], roots: [], storeDir: '/nix/store', removed: new Set<StoreHash>() };
  const dir = { readShard: () => Promise.resolve(undefined), writeShard: () => Promise.resolve() };
  const changed = { ...parts, removed: new Set([hashOf(OTHERS[0]!)]) };
  await assert.rejects(buildShards(changed, manifestOf(first), dir), { code: 'INDEX_INVALID' });
});
