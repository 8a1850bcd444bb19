import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { test } from 'node:test';
import { commit } from '../../src/fetch/commit.ts';
import { isWithoutNar, narInfoWithoutNar } from '../../src/nix/path-info.ts';
import { parseStoreHash } from '../../src/nix/store-path.ts';
import { LEAF } from '../nix/fixtures.ts';
import { filledStore, infoOf } from '../store/store-fixture.ts';

test('what the target vouches for takes the place of nothing but a lack', async (t) => {
  const store = await filledStore(t);
  const info = await infoOf(store, LEAF);
  await commit([narInfoWithoutNar(info)], [], store);
  assert.deepEqual(await infoOf(store, LEAF), info);
  await rm(store.narInfoPath(parseStoreHash(LEAF)));
  await commit([narInfoWithoutNar(info)], [], store);
  assert(isWithoutNar(await infoOf(store, LEAF)));
  await commit([info], [], store);
  assert.deepEqual(await infoOf(store, LEAF), info);
});
