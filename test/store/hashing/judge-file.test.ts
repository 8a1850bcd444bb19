import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeFile } from '../../../src/store/hashing/judge-file.ts';
import { LEAF, NOTE, TOP } from '../../nix/fixtures.ts';
import { filledStore, infoOf } from '../store-fixture.ts';

test('accepts a file with the signed contents, whatever its name', async (t) => {
  const store = await filledStore(t);
  const { signal } = new AbortController();
  const infos = await Promise.all([LEAF, NOTE, TOP].map((hash) => infoOf(store, hash)));
  for (const file of infos) {
    const { fileHash, fileSize } = file;
    assert.ok(fileHash !== undefined && fileSize !== undefined);
    for (const info of infos) {
      const judged = await judgeFile({ path: store.narPath(file), fileHash, fileSize }, info, signal);
      assert.equal(judged?.fileHash, info === file ? fileHash : undefined);
    }
  }
});
