import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Closure } from '../../src/fetch/closure.ts';
import { planFetch } from '../../src/fetch/plan.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { narTorrent, type NarTorrent } from '../../src/torrent/canonical.ts';
import { infoOf } from './narinfos.ts';

let dir: string;
let store: FileStore;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'narswarm-plan-'));
  store = await FileStore.open(dir, { create: true });
});
after(() => rm(dir, { recursive: true }));

const closureOf = (...infos: NarInfo[]): Closure => new Map(infos.map((info) => [storeHashOf(info.storePath), info]));
const none = (): Promise<NarTorrent | undefined> => Promise.resolve(undefined);
const put = (info: NarInfo, sizeBytes: number): Promise<void> =>
  writeFile(store.narPath(info), Buffer.alloc(sizeBytes));

test('what is nowhere has to come, with the torrent that a hash map knows', async () => {
  const info = infoOf('a');
  const torrent = narTorrent({ fileHash: info.fileHash!, extension: 'xz', sizeBytes: 100, pieces: Buffer.alloc(20) });
  const plan = await planFetch(closureOf(info, infoOf('b')), {
    store,
    needed: undefined,
    torrentOf: (one) => Promise.resolve(one === info ? torrent : undefined),
  });
  assert.deepEqual(
    plan.jobs.map((job) => [job.info.storePath.slice(44), job.sizeBytes, job.torrent]),
    [
      ['a', 100, torrent],
      ['b', 100, undefined],
    ],
  );
  assert.deepEqual([plan.jobBytes, plan.storeBytes], [200, 0]);
});

test('what the target holds is not needed', async () => {
  const [a, b] = [infoOf('a'), infoOf('b')];
  const plan = await planFetch(closureOf(a, b), { store, needed: new Set([b.storePath]), torrentOf: none });
  assert.deepEqual([plan.valid, plan.jobs.map((job) => job.info)], [[a], [b]]);
});

test('two paths with one NAR are one job', async () => {
  const a = infoOf('a');
  const { url, fileHash, fileSize } = a;
  const b = infoOf('b', [], { url, fileHash: fileHash!, fileSize: fileSize! });
  const plan = await planFetch(closureOf(a, b), { store, needed: undefined, torrentOf: none });
  assert.equal(plan.jobs.length, 1);
  assert.deepEqual(plan.jobs[0]?.storePaths, [a.storePath, b.storePath]);
  assert.equal(plan.jobBytes, 100);
});

test('a NAR counts as held with the right size and a narinfo that vouches for it', async () => {
  const [whole, alone, short] = [infoOf('whole'), infoOf('alone'), infoOf('short')];
  await put(whole, 100);
  await store.writeNarInfo(whole);
  await put(alone, 100);
  await put(short, 99);
  await store.writeNarInfo(short);
  const plan = await planFetch(closureOf(whole, alone, short), { store, needed: undefined, torrentOf: none });
  assert.deepEqual(plan.inStore, [whole]);
  assert.deepEqual(
    plan.jobs.map((job) => job.info),
    [alone, short],
  );
  assert.equal(plan.storeBytes, 100);
});

test('a narinfo without FileHash or FileSize is a matter for upstreams', async () => {
  const { fileHash: _hash, ...unhashed } = infoOf('a');
  const { fileSize: _size, ...unsized } = infoOf('b');
  const plan = await planFetch(closureOf(unhashed, unsized), { store, needed: undefined, torrentOf: none });
  assert.deepEqual([plan.unsized, plan.jobs], [[unhashed, unsized], []]);
});
