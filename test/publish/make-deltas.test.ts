import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, test, type TestContext } from 'node:test';
import { deltasOf } from '../../src/delta/record.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { makePatches, pairsToPatch, withKeptPatches, type PatchesMade } from '../../src/publish/make-deltas.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { PatchList } from '../../src/store/patch-list.ts';
import { emptyStore } from '../store/store-fixture.ts';
import { addPath } from '../store/synthetic-store.ts';

const BYTES = 100_000;

interface Sample {
  readonly store: FileStore;
  readonly before: NarInfo;
  readonly after: NarInfo;
}

/** A store with two versions of a package. */
async function sample(t: TestContext): Promise<Sample> {
  const store = await emptyStore(t);
  const before = await addPath(store, 'app-1', { bytes: BYTES });
  return { store, before, after: await addPath(store, 'app-2', { bytes: BYTES }) };
}

async function make({ store, before, after }: Sample): Promise<PatchesMade> {
  const list = new PatchList(store);
  const { signal } = new AbortController();
  const pairs = await pairsToPatch([after], [[before]], { store, list });
  return makePatches(pairs, { store, list, tell: () => undefined, signal });
}

describe('making patches', () => {
  test('a patch is made once, and the record names it', async (t) => {
    const given = await sample(t);
    const { patches, patchBytes, fileBytes, vain } = await make(given);
    assert.deepEqual({ patches, fileBytes, vain }, { patches: 1, fileBytes: BYTES, vain: 0 });
    const record = withKeptPatches(given.after, new PatchList(given.store));
    const [delta] = deltasOf(record);
    assert.deepEqual([delta?.baseNarHash, delta?.torrent.sizeBytes], [given.before.narHash, patchBytes]);
    assert.deepEqual(withKeptPatches(given.before, new PatchList(given.store)), given.before);
    assert.deepEqual(await make(given), { patches: 0, patchBytes: 0, fileBytes: 0, vain: 0, damaged: 0 });
  });

  test('no patch is named that gives other contents than the signed ones', async (t) => {
    const given = await sample(t);
    const path = given.store.narPath(given.after);
    const bytes = await readFile(path);
    const good = bytes[5000] ?? 0;
    bytes[5000] = good ^ 1;
    await writeFile(path, bytes);
    const { patches, damaged } = await make(given);
    assert.deepEqual({ patches, damaged }, { patches: 0, damaged: 1 });
    assert.deepEqual(withKeptPatches(given.after, new PatchList(given.store)), given.after);
    bytes[5000] = good;
    await writeFile(path, bytes);
    assert.equal((await make(given)).patches, 1, 'once the file is repaired, it is tried again');
  });

  test('nor one of a base with other contents, which followers do not have', async (t) => {
    const given = await sample(t);
    const path = given.store.narPath(given.before);
    const bytes = await readFile(path);
    bytes[5000] = 1;
    await writeFile(path, bytes);
    const { patches, vain, damaged } = await make(given);
    assert.deepEqual({ patches, vain, damaged }, { patches: 0, vain: 0, damaged: 1 });
  });

  test('a patch that saves too little is neither kept nor tried again', async (t) => {
    const given = await sample(t);
    const small = { ...given, after: { ...given.after, fileSize: 20 } };
    assert.deepEqual(await make(small), { patches: 0, patchBytes: 0, fileBytes: 0, vain: 1, damaged: 0 });
    assert.deepEqual(await make(small), { patches: 0, patchBytes: 0, fileBytes: 0, vain: 0, damaged: 0 });
  });
});
