import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { failureOf } from '../../../src/failure.ts';
import {
  readState,
  subscriptionsFolder,
  writeState,
  type LastRun,
  type SubscriptionState,
} from '../../../src/subscription/state/state.ts';
import { emptyStore } from '../../store/store-fixture.ts';

const STATE: SubscriptionState = {
  name: 'x',
  source: 's',
  generations: [],
  missing: [{ path: 'p', reason: 'cannot fetch p: gone' }],
  missingCount: 1,
  notes: [],
};

test('reads a state of an earlier version, which has failures only as sentences', async (t) => {
  const store = await emptyStore(t);
  await writeState(store, STATE);
  assert.deepEqual(await readState(store, 'x'), STATE);
});

test('reads the failure of a run as earlier versions wrote it', async (t) => {
  const store = await emptyStore(t);
  const run = { at: 'then', durationMs: 1, outcome: 'incomplete', bytes: { store: 0, peers: 0, upstream: 0 }, nars: 0 };
  const read = async (lastRun: object): Promise<unknown> => {
    await writeState(store, { ...STATE, lastRun: { ...run, ...lastRun } as LastRun });
    return (await readState(store, 'x'))?.lastRun;
  };
  const reason = 'p is missing, and 2 more: gone';
  assert.deepEqual(await read({ message: reason }), { ...run, failure: { reason } });
  const lack = { path: 'p', count: 3 };
  assert.deepEqual(await read({ message: reason, code: 'NAR_UNAVAILABLE', lack }), {
    ...run,
    failure: { reason, code: 'NAR_UNAVAILABLE' },
    lack,
  });
});

test('reads back the failure of a run, and the reason for the first missing path', async (t) => {
  const store = await emptyStore(t);
  const lastRun: LastRun = {
    at: 'then',
    durationMs: 1,
    outcome: 'incomplete',
    failure: { reason: 'paths are missing', code: 'NAR_UNAVAILABLE', facts: { path: 'p', missing: 3 } },
    lack: { path: 'p', reason: 'gone', code: 'NAR_UNAVAILABLE', facts: { why: 'gone' }, count: 3 },
    bytes: { store: 0, peers: 0, upstream: 0 },
    nars: 0,
  };
  await writeState(store, { ...STATE, lastRun });
  assert.deepEqual((await readState(store, 'x'))?.lastRun, lastRun);
  const lost: LastRun = { ...lastRun, lack: { path: 'p', loss: 'gone', count: 1 } };
  await writeState(store, { ...STATE, lastRun: lost });
  assert.deepEqual((await readState(store, 'x'))?.lastRun, lost);
});

test('reads back what the store has lost, and notes; leaves out notes of later versions', async (t) => {
  const store = await emptyStore(t);
  const notes = [
    'a sentence of an earlier version',
    { kind: 'left-out', paths: ['p'], count: 7, isUsual: false },
  ] as const;
  const state = { ...STATE, missing: [{ path: 'p', loss: 'gone' }], notes } as const;
  await writeState(store, state);
  assert.deepEqual(await readState(store, 'x'), state);
  const file = join(subscriptionsFolder(store), 'x.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"left-out"', '"of-tomorrow"'));
  assert.deepEqual((await readState(store, 'x'))?.notes, notes.slice(0, 1));
});

test('reads back failures with their facts, and accepts additions of later versions', async (t) => {
  const store = await emptyStore(t);
  const cause = new NarswarmError('HTTP_FAILED', 'no', {
    facts: { url: 'http://c/x', attempts: 2, status: undefined },
  });
  const error = new NarswarmError('NAR_UNAVAILABLE', 'gone', {
    cause: new AggregateError([cause, new Error('eaten')]),
    facts: { origins: ['a', 'b'], mapLied: false },
  });
  await writeState(store, { ...STATE, missing: [{ path: 'p', ...failureOf(error) }] });
  const { missing: [read] = [] } = (await readState(store, 'x')) ?? {};
  assert.deepEqual(read, {
    path: 'p',
    reason: 'gone',
    code: 'NAR_UNAVAILABLE',
    facts: { origins: ['a', 'b'], mapLied: false },
    causes: [{ reason: 'no', code: 'HTTP_FAILED', facts: { url: 'http://c/x', attempts: 2 } }, { reason: 'eaten' }],
  });
  const file = join(subscriptionsFolder(store), 'x.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"NAR_UNAVAILABLE"', '"OF_TOMORROW", "when": 1'));
  assert.partialDeepStrictEqual(await readState(store, 'x'), { missing: [{ reason: 'gone' }] });
});
