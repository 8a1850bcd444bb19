import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turns } from '../../src/wire/turns.ts';

/** More answers than are made at a time. */
const MANY = 20;

/** Takes every place of the turns until `free` is called. */
function busyTurns(): { readonly turns: Turns; readonly free: () => void } {
  const turns = new Turns();
  const { promise, resolve } = Promise.withResolvers<void>();
  for (let count = 0; count < MANY; count++) void turns.take({ host: '10.0.0.1' }, () => promise);
  return { turns, free: resolve };
}

test('hosts are answered in turn, and the connections of a host in turn', async () => {
  const { turns, free } = busyTurns();
  const order: string[] = [];
  const ask = (name: string, asker: { readonly host: string }): Promise<void> =>
    turns.take(asker, async () => {
      order.push(name);
    });
  const [first, second] = [{ host: '10.0.0.2' }, { host: '10.0.0.2' }];
  const other = { host: '::ffff:10.0.0.3' };
  const asked = ['a', 'a', 'a'].map((name) => ask(name, first));
  asked.push(...['b', 'b'].map((name) => ask(name, second)), ...['c', 'c'].map((name) => ask(name, other)));
  free();
  await Promise.all(asked);
  assert.deepEqual(order, ['a', 'c', 'b', 'c', 'a', 'b', 'a']);
});

test('answers that take long keep no place from others', { timeout: 180_000 }, async () => {
  const { turns, free } = busyTurns();
  const order: string[] = [];
  setTimeout(() => {
    order.push('free');
    free();
  }, 1_000);
  await turns.take({ host: '10.0.0.2' }, async () => {
    order.push('answered');
  });
  assert.deepEqual(order, ['answered']);
  free();
});

test('few answers are begun before the event loop turns', async () => {
  const turns = new Turns();
  let begun = 0;
  const looped = nextTurn().then(() => begun);
  const asked = Array.from({ length: 1000 }, () =>
    turns.take({ host: '10.0.0.2' }, async () => {
      begun++;
    }),
  );
  assert.ok((await looped) < 100);
  await Promise.all(asked);
  assert.equal(begun, 1000);
});

test('an answer that fails makes place for the next', async () => {
  const turns = new Turns();
  const failing = Array.from({ length: MANY }, () =>
    assert.rejects(turns.take({ host: '10.0.0.2' }, () => Promise.reject(new Error('gone')))),
  );
  assert.equal(await turns.take({ host: '10.0.0.3' }, () => Promise.resolve('here')), 'here');
  await Promise.all(failing);
});
