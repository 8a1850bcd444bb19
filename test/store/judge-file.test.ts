import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judgeFile } from '../../src/store/judge-file.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { filledStore, infoOf } from './store-fixture.ts';

test('a file is what was signed if its contents are, whatever it is called', async (t) => {
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
