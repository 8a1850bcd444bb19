import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { commit } from '../../../src/fetch/commit/commit.ts';
import { isWithoutNar, narInfoWithoutNar } from '../../../src/nix/path-info.ts';
import { parseStoreHash } from '../../../src/nix/store-path.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import { LEAF } from '../../nix/fixtures.ts';
import { filledStore, infoOf, tempDir } from '../../store/store-fixture.ts';
import { closureOf } from '../walk/closure-of.ts';

test('a narinfo of the target is written only if there is none', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  await commit(closureOf(narInfoWithoutNar(info)), [], store);
  assert.deepEqual(await infoOf(store, LEAF), info);
  await rm(store.narInfoPath(parseStoreHash(LEAF)));
  await commit(closureOf(narInfoWithoutNar(info)), [], store);
  assert(isWithoutNar(await infoOf(store, LEAF)));
  await commit(closureOf(info), [], store);
  assert.deepEqual(await infoOf(store, LEAF), info);
});

/** Until the test ends, the disk cannot take what was written. */
async function breakSync(t: TestContext): Promise<void> {
  const programs = await tempDir(t);
  await writeFile(`${programs}/sync`, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  const path = process.env['PATH'];
  process.env['PATH'] = programs;
  t.after(() => (process.env['PATH'] = path));
}

test('no narinfo is written if the disk could not take the NARs', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  await rm(store.narInfoPath(parseStoreHash(LEAF)));
  await breakSync(t);
  await assert.rejects(commit(closureOf(info), [], store), { code: 'STORE_UNWRITABLE' });
  assert.equal(await store.readNarInfo(parseStoreHash(LEAF)), undefined);
});

test('a NAR that came again is not listed if the disk could not take it, although its narinfo is there', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  await breakSync(t);
  await assert.rejects(commit(closureOf(info), [], store), { code: 'STORE_UNWRITABLE' });
  assert.equal((await Catalogue.open(store)).size, 0);
});

test('nothing waits for the disk if there is nothing to write', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  await commit(closureOf(info), [], store);
  await breakSync(t);
  await commit(closureOf(info), [], store);
});
