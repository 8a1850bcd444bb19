import assert from 'node:assert/strict';
import { appendFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { PATCH_EXTENSION } from '../../src/delta/record.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { collectGarbage } from '../../src/store/gc.ts';
import { PatchList, type KeptPatch } from '../../src/store/patch-list.ts';
import { narTorrent } from '../../src/torrent/canonical.ts';
import { emptyStore } from './store-fixture.ts';
import { addPath, pathNamed, serveAt } from './synthetic-store.ts';

const DAY_MS = 86_400_000;

async function addPatch(store: FileStore, info: NarInfo, byte: number, atMs = Date.now()): Promise<KeptPatch> {
  const torrent = narTorrent({
    fileHash: fileHashOf(Buffer.alloc(32, byte)),
    extension: PATCH_EXTENSION,
    sizeBytes: 100,
    pieces: Buffer.alloc(20),
  });
  const base = { baseName: 'ak1r35k6n7424jh8hk7axrj4l9x6zsrv-old', baseNarHash: narHashOf(Buffer.alloc(32, byte)) };
  const patch = { storePath: info.storePath, narHash: info.narHash, ...base, baseNarSize: 5, torrent };
  const list = new PatchList(store);
  await writeFile(list.pathOf(patch), Buffer.alloc(100));
  await utimes(list.pathOf(patch), atMs / 1000, atMs / 1000);
  await list.add(patch);
  return patch;
}

/** Collects; keeps `app`. Returns the patches that stay. */
async function collect(store: FileStore): Promise<KeptPatch[]> {
  await collectGarbage({
    store,
    roots: async () => [{ storePath: pathNamed('app'), keeper: undefined, isWhole: true }],
    maxBytes: 0,
    dryRun: false,
    now: new Date(),
    signal: new AbortController().signal,
    onWarning: (warning) => assert.fail(warning.kind),
  });
  const list = new PatchList(store);
  return [...list.all()].filter((patch) => list.isHere(patch));
}

describe('the list of patches', () => {
  const sample = async (t: TestContext): Promise<{ store: FileStore; info: NarInfo }> => {
    const store = await emptyStore(t);
    return { store, info: await addPath(store, 'app') };
  };

  test('has what another process adds, whatever a crash has torn', async (t) => {
    const { store, info } = await sample(t);
    const list = new PatchList(store);
    const first = await addPatch(store, info, 1);
    await appendFile(join(store.stateDir, 'patches.jsonl'), '{"storePath":"/nix/st');
    const second = await addPatch(store, info, 2);
    assert.equal(list.refresh(), true);
    assert.deepEqual(list.of(info.storePath), [second, first]);
    assert.deepEqual(list.byInfoHash(first.torrent.infoHash), first);
    assert.equal(list.refresh(), false);
  });

  test('remembers bases in vain, and forgets patches whose file is gone', async (t) => {
    const { store, info } = await sample(t);
    const patch = await addPatch(store, info, 1);
    const vain = { storePath: info.storePath, narHash: info.narHash, baseNarHash: narHashOf(Buffer.alloc(32, 9)) };
    await new PatchList(store).add({ ...vain, isVain: true });
    const list = new PatchList(store);
    assert.deepEqual([list.isDone(patch), list.isDone(vain)], [true, true]);
    await rm(list.pathOf(patch));
    assert.deepEqual([list.isDone(patch), list.isDone(vain)], [false, true]);
    await list.compact();
    assert.deepEqual([[...list.all()], list.isDone(vain)], [[], true]);
  });
});

describe('gc of patches', () => {
  test('a patch stays with its path, and goes after it', async (t) => {
    const store = await emptyStore(t);
    const app = await addPatch(store, await addPath(store, 'app'), 1);
    await addPatch(store, await addPath(store, 'old'), 2);
    await collect(store); // its path goes
    assert.deepEqual(await collect(store), [app]);
    const { size } = await stat(join(store.stateDir, 'patches.jsonl'));
    assert.ok(size < 1000, 'the line of the other is dropped');
  });

  test('a patch that nobody wanted for 30 days goes, one that was served stays', async (t) => {
    const store = await emptyStore(t);
    const info = await addPath(store, 'app');
    await addPatch(store, info, 1, Date.now() - 31 * DAY_MS);
    const served = await addPatch(store, info, 2, Date.now() - 31 * DAY_MS);
    await serveAt(store, { ...info, url: `nar/${served.torrent.name}` }, Date.now() - DAY_MS);
    const young = await addPatch(store, info, 3, Date.now() - 29 * DAY_MS);
    assert.deepEqual(await collect(store), [served, young]);
  });
});
