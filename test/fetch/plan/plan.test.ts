import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Closure } from '../../../src/fetch/walk/closure.ts';
import { commit } from '../../../src/fetch/commit/commit.ts';
import { newJob } from '../../../src/fetch/plan/job.ts';
import { namedFile } from '../../../src/fetch/plan/named-file.ts';
import { attachTorrents, planFetch, type Plan } from '../../../src/fetch/plan/plan.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import type { StorePath } from '../../../src/nix/brands.ts';
import { fileHashOf } from '../../../src/nix/hash.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import { pendingEntry } from '../../../src/store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { narTorrent } from '../../../src/torrent/canonical.ts';
import { infoOf } from '../walk/narinfos.ts';
import { forDryRun } from '../../../src/store/claims.ts';
import { closureOf } from '../walk/closure-of.ts';

let dir: string;
let store: FileStore;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'narswarm-plan-'));
  store = await FileStore.open(dir, { create: true });
});
after(() => rm(dir, { recursive: true }));

const { signal } = new AbortController();
const planOf = async (closure: Closure, needed?: ReadonlySet<StorePath>): Promise<Plan> =>
  planFetch(forDryRun(closure), { store, catalogue: await Catalogue.open(store), needed, signal });
/** Writes a NAR into the store and returns a narinfo that fits it. */
const put = async (name: string, rest: Partial<NarInfo> = {}): Promise<NarInfo> => {
  const bytes = Buffer.alloc(100, name);
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  const info = infoOf(name, [], { fileHash, fileSize: 100, url: FileStore.narUrl(fileHash, 'xz'), ...rest });
  await writeFile(store.narPath(info), bytes);
  return info;
};
const damage = (info: NarInfo): Promise<void> => writeFile(store.narPath(info), Buffer.alloc(100));
/** Adds a NAR to the catalogue as it is on the disk. */
const list = async (info: NarInfo): Promise<void> => {
  const nar = { fileHash: info.fileHash!, extension: 'xz', ...(await store.statNar(info))! };
  await (await Catalogue.open(store)).add([pendingEntry(nar, info.storePath, 'fetch')]);
};

test('a NAR that is nowhere is planned, with its torrent if a hash map has it', async () => {
  const info = infoOf('a');
  const torrent = narTorrent({ fileHash: info.fileHash!, extension: 'xz', sizeBytes: 100, pieces: Buffer.alloc(20) });
  const plan = await planOf(closureOf(info, infoOf('b')));
  await attachTorrents(plan.jobs, (one) => Promise.resolve(one === info ? torrent : undefined));
  assert.deepEqual(
    plan.jobs.map((job) => [job.info.storePath.slice(44), job.sizeBytes, job.torrent]),
    [
      ['a', 100, torrent],
      ['b', 100, undefined],
    ],
  );
  assert.deepEqual([plan.jobBytes, plan.storeBytes], [200, 0]);
});

test('a path that the target holds is not planned', async () => {
  const [a, b] = [infoOf('a'), infoOf('b')];
  const plan = await planOf(closureOf(a, b), new Set([b.storePath]));
  assert.deepEqual([plan.valid, plan.jobs.map((job) => job.info)], [[a], [b]]);
});

test('two paths with one NAR are one job', async () => {
  const a = infoOf('a');
  const { url, fileHash, fileSize, narHash } = a;
  const b = infoOf('b', [], { url, fileHash: fileHash!, fileSize: fileSize!, narHash });
  const plan = await planOf(closureOf(a, b));
  assert.equal(plan.jobs.length, 1);
  assert.deepEqual(plan.jobs[0]?.storePaths, [a.storePath, b.storePath]);
  assert.equal(plan.jobBytes, 100);
});

test('a narinfo with an impossible file is fetched by its contents', async () => {
  const a = infoOf('a');
  const { fileSize: _size, ...absent } = infoOf('absent');
  const odd = [
    absent,
    infoOf('huge', [], { fileSize: Number.MAX_SAFE_INTEGER }),
    infoOf('too-large', [], { fileSize: 65_750 }),
    infoOf('odd', [], { compression: 'zstd-19' }),
  ];
  const largest = infoOf('large', [], { fileSize: 65_749 });
  const plan = await planOf(closureOf(a, ...odd, largest));
  assert.deepEqual(plan.unsized, odd);
  assert.deepEqual(
    plan.jobs.map(({ info }) => info),
    [a, largest],
  );
});

test('one file that two NARs claim is one job, whose contents decide, also if the catalogue lists it', async () => {
  const honest = await put('honest');
  const { url, fileHash, fileSize } = honest;
  const liar = infoOf('liar', [], { url, fileHash: fileHash!, fileSize: fileSize! });
  await list(honest);
  for (const closure of [closureOf(honest, liar), closureOf(liar, honest)]) {
    const plan = await planOf(closure);
    assert.deepEqual([plan.jobs, plan.inStore, plan.unsized], [[], [], []]);
    const [only, ...others] = plan.verified;
    assert.deepEqual([only?.isDisputed, others], [true, []]);
    assert.deepEqual(
      only?.storePaths,
      Array.from(closure.values(), ({ storePath }) => storePath),
    );
  }
});

test('a NAR that is being fetched already is a job of the plan, for all its paths', async () => {
  const begun = await put('begun');
  const { url, fileHash, fileSize, narHash } = begun;
  const other = infoOf('other', [], { url, fileHash: fileHash!, fileSize: fileSize!, narHash });
  const job = newJob(namedFile(begun)!, begun, undefined);
  const context = { store, catalogue: await Catalogue.open(store), needed: undefined, signal };
  const plan = await planFetch(forDryRun(closureOf(other, begun)), { ...context, begun: new Map([[fileHash!, job]]) });
  assert.equal(plan.jobs[0], job);
  assert.deepEqual([plan.jobs.length, plan.verified, plan.inStore], [1, [], []]);
  assert.deepEqual(job.storePaths, [begun.storePath, other.storePath]);
});

test('a NAR that the catalogue does not list is read, with or without a narinfo', async () => {
  const [whole, zeroed, alone] = [await put('whole'), await put('zeroed'), await put('alone')];
  const short = await put('short', { fileSize: 99 });
  for (const info of [whole, zeroed, short]) await store.rewriteNarInfo(info);
  await damage(zeroed); // as a power cut leaves a file that was not synced
  const plan = await planOf(closureOf(whole, zeroed, alone, short));
  assert.deepEqual(plan.inStore, [whole, alone]);
  assert.deepEqual(
    plan.jobs.map((job) => job.info),
    [zeroed, short],
  );
  assert.deepEqual([plan.storeBytes, plan.jobBytes], [200, 199]);
  const { torrent } = plan.verified.find(({ info }) => info === whole)!;
  const pieces = createHash('sha1')
    .update(await readFile(store.narPath(whole)))
    .digest();
  assert.deepEqual(torrent, narTorrent({ fileHash: whole.fileHash!, extension: 'xz', sizeBytes: 100, pieces }));
});

test('a NAR that the catalogue lists with its size and time is not read', async () => {
  const [listed, changed] = [await put('listed'), await put('changed')];
  await damage(listed); // only reading the file shows it
  await list(listed);
  await list(changed);
  await damage(changed);
  await utimes(store.narPath(changed), 1, 1);
  const plan = await planOf(closureOf(listed, changed));
  assert.deepEqual([plan.inStore, plan.verified], [[listed], []]);
  assert.deepEqual(
    plan.jobs.map((job) => job.info),
    [changed],
  );
});

test('a NAR that was read and committed is not read again', async () => {
  const info = await put('once');
  const first = await planOf(closureOf(info));
  assert.deepEqual(
    first.verified.map((nar) => nar.info),
    [info],
  );
  await commit(closureOf(info), first.verified, store);
  const second = await planOf(closureOf(info));
  assert.deepEqual([second.inStore, second.verified], [[info], []]);
  const entry = (await Catalogue.open(store)).byStorePath(info.storePath);
  assert.equal(entry?.torrent!.infoHash, first.verified[0]?.torrent?.infoHash, 'its pieces are known, too');
});

test('a narinfo without FileHash or FileSize is left to upstreams', async () => {
  const { fileHash: _hash, ...unhashed } = infoOf('a');
  const { fileSize: _size, ...unsized } = infoOf('b');
  const plan = await planOf(closureOf(unhashed, unsized));
  assert.deepEqual([plan.unsized, plan.jobs], [[unhashed, unsized], []]);
});

test('a file counts as named by a cache only if the cache is configured', async () => {
  const configured = parseUpstream('http://cache.example');
  const found = { ...configured, isAnnounced: true };
  for (const [cache, namedBy] of [
    [configured, configured],
    [found, undefined],
    [undefined, undefined],
  ]) {
    const catalogue = await Catalogue.open(store);
    const context = { store, catalogue, needed: undefined, cacheOf: () => cache, signal };
    const { jobs } = await planFetch(forDryRun(closureOf(infoOf('named'))), context);
    assert.deepEqual(
      jobs.map((job) => job.namedBy),
      [namedBy],
    );
  }
});

test('of paths that the target holds, a NAR in the store is read, and a wrong or missing one is not held', async () => {
  const [left, wrong, absent] = [await put('left'), await put('wrong'), infoOf('absent')];
  await damage(wrong);
  const plan = await planOf(closureOf(left, wrong, absent), new Set());
  assert.deepEqual(plan.jobs, []);
  assert.deepEqual(plan.valid, [left, wrong, absent]);
  assert.deepEqual(plan.unheld, [wrong, absent]);
  assert.deepEqual(
    plan.verified.map(({ info }) => info),
    [left],
  );
});
