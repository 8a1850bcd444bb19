import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, utimesSync } from 'node:fs';
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

test('a process that another machine has left on a disk has the turn for ten minutes, whichever clock is wrong', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'narswarm-turn-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const store = await FileStore.open(dir, { create: true });
  const other = `${'0'.repeat(32)}-${'0'.repeat(32)}-1-1-1-abc`;
  const minute = 60_000;
  for (const [agoMs, isTaken] of [
    [0, true],
    [minute, true],
    [-minute, true],
    [11 * minute, false],
    [-11 * minute, false],
    [-1e6 * minute, false],
  ] as const) {
    const folder = join(dir, 'narswarm/packing', other);
    mkdirSync(folder, { recursive: true });
    const at = new Date(Date.now() - agoMs);
    utimesSync(folder, at, at);
    const turn = await Turn.take(store, 'packing');
    assert.equal(turn === other, isTaken, `${agoMs / minute} minutes ago`);
    if (turn instanceof Turn) await turn[Symbol.asyncDispose]();
  }
});
