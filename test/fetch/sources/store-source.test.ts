import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storeSource } from '../../../src/fetch/sources/narinfo-sources.ts';
import { narInfoWithoutNar } from '../../../src/nix/path-info.ts';
import { parseStoreHash } from '../../../src/nix/store-path.ts';
import { LEAF, NOTE } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../../store/store-fixture.ts';

test('the file store is no source of paths that only a target vouched for', async (t) => {
  const store = await filledStore(t);
  const { signal } = new AbortController();
  const note = await infoOf(store, NOTE);
  await store.rewriteNarInfo(narInfoWithoutNar(await infoOf(store, LEAF)));
  const source = await storeSource(store);
  assert.equal(await source.find(parseStoreHash(LEAF), signal), undefined);
  assert.deepEqual(await source.find(parseStoreHash(NOTE), signal), note);
});
