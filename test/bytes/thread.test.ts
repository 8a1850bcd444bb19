import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Thread } from '../../src/bytes/thread.ts';

const WORKER = new URL('./thread-worker.ts', import.meta.url);
const LIMIT = { timeout: 20_000 };

test('many questions at a time get their own answers', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  const answers = await Promise.all([1, 2, 3, 4].map((question) => thread.ask(question)));
  assert.deepEqual(answers, [2, 4, 6, 8]);
  await thread.close();
});

test('what the work throws comes with its words and its code, and the thread answers on', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  await assert.rejects(thread.ask(-1), { message: 'negative', code: 'EDOM' });
  assert.equal(await thread.ask(1), 2);
  await thread.close();
});

test('a thread that ends is waited for no longer', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  await assert.rejects(thread.ask(0), /out of order/); // it throws outside of a question
  assert.ok(thread.hasEnded);
  await assert.rejects(thread.ask(1), /out of order/);
});

test('closing ends what is waited for', LIMIT, async () => {
  const thread = new Thread<number, number>(WORKER);
  const waiting = assert.rejects(thread.ask(Infinity), /has ended/);
  await thread.close();
  await waiting;
});
