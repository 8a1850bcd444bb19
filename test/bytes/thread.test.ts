import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Thread } from '../../src/bytes/thread.ts';

const WORKER = new URL('./thread-worker.ts', import.meta.url);
const LIMIT = { timeout: 180_000 };

test('each of many questions gets its own answer', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  const answers = await Promise.all([1, 2, 3, 4].map((question) => thread.ask(question)));
  assert.deepEqual(answers, [2, 4, 6, 8]);
  await thread.close();
});

test('returns errors of the work with message and code, and still answers afterwards', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  await assert.rejects(thread.ask(-1), { message: 'negative', code: 'EDOM' });
  assert.equal(await thread.ask(1), 2);
  await thread.close();
});

test('does not wait for an ended thread', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  await assert.rejects(thread.ask(0), /out of order/); // it throws outside of a request
  assert.ok(thread.hasEnded);
  await assert.rejects(thread.ask(1), /out of order/);
});

test('closing ends pending questions', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  const waiting = assert.rejects(thread.ask(Infinity), /has ended/);
  await thread.close();
  await waiting;
});
