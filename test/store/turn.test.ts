import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileStore } from '../../src/store/file-store.ts';
import { Turn } from '../../src/store/turn.ts';

test('of those that try at the same moment, one gets the turn', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'narswarm-turn-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const store = await FileStore.open(dir, { create: true });
  for (let round = 0; round < 5; round++) {
    const taken = await Promise.all(Array.from({ length: 4 }, () => Turn.take(store, 'packing')));
    const [turn, ...others] = taken.filter((one) => one instanceof Turn);
    assert.ok(turn !== undefined && others.length === 0);
    assert.equal(typeof (await Turn.take(store, 'packing')), 'string', 'it is taken');
    await turn[Symbol.asyncDispose]();
  }
});
