import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ProcessorBudget, type HostTime } from '../../src/wire/processor-budget.ts';

const RATE = { perSecondMs: 100, burstMs: 50 };

/** A budget with clocks that the test moves. */
function made(): {
  budget: ProcessorBudget;
  clock: { now: number; used: number };
  use: (time: HostTime, ms: number, share?: number) => void;
  /** Uses time in a microtask after a read that takes none. */
  useAfter: (time: HostTime, ms: number, share?: number) => void;
} {
  const clock = { now: 0, used: 0 };
  const budget = new ProcessorBudget(RATE, { nowMs: () => clock.now, usedMs: () => clock.used });
  const use = (time: HostTime, ms: number, share = 1): void =>
    time.spend(() => {
      clock.used += ms;
      return share;
    });
  const useAfter = (time: HostTime, ms: number, share = 1): void => {
    const read = (): number => {
      queueMicrotask(() => void (clock.used += ms));
      return share;
    };
    time.spend(read, { andAfter: true });
  };
  return { budget, clock, use, useAfter };
}

test('a host has a burst, and the part of its time that counts', () => {
  const { budget, use } = made();
  const host = budget.of('10.0.0.1');
  use(host, 49);
  use(host, 1000, 0);
  assert.equal(host.isOver, false);
  use(host, 4, 0.5);
  assert.equal(host.isOver, true);
});

test('the connections of a host share its time, also after they have ended, and other hosts have their own', () => {
  const { budget, use } = made();
  use(budget.of('10.0.0.1'), 60);
  assert.deepEqual(
    ['10.0.0.1', '::ffff:10.0.0.1', '10.0.0.2'].map((host) => budget.of(host).isOver),
    [true, true, false],
  );
});

test('time that is unused for long adds up to one burst', () => {
  const { budget, clock, use } = made();
  const host = budget.of('10.0.0.1');
  clock.now = 1e9;
  use(host, 51);
  assert.equal(host.isOver, true);
});

test('waiting connections have turns: one that uses up the time keeps the next one waiting', async () => {
  const { budget, clock, use } = made();
  const host = budget.of('10.0.0.1');
  use(host, 51);
  const resumed: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  host.whenFree(() => {
    resumed.push('first');
    use(host, 60);
    resolve();
  });
  host.whenFree(() => resumed.push('second'));
  clock.now = 10;
  await promise;
  assert.deepEqual([resumed, host.isOver], [['first'], true]);
});

test('what follows a read in the same turn of the event loop counts, and nothing later', async () => {
  const { budget, clock, useAfter } = made();
  const [whole, half, later] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((host) => budget.of(host));
  assert.ok(whole && half && later);
  useAfter(whole, 51);
  await nextTurn();
  useAfter(half, 60, 0.5);
  await nextTurn();
  useAfter(later, 1);
  await nextTurn();
  clock.used += 60;
  await nextTurn();
  assert.deepEqual([whole.isOver, half.isOver, later.isOver], [true, false, false]);
});

test('the messages of one host do not follow from those of another', async () => {
  const { budget, use, useAfter } = made();
  const [first, second] = [budget.of('10.0.0.1'), budget.of('10.0.0.2')];
  useAfter(first, 0);
  use(second, 51);
  await nextTurn();
  assert.deepEqual([first.isOver, second.isOver], [false, true]);
});

test('a new connection of a host that is over its limit waits for its turn', async () => {
  const { budget, clock } = made();
  const host = budget.of('10.0.0.1');
  const entered: string[] = [];
  await host.enter(51, () => entered.push('first'));
  const waiting = [host.enter(60, () => entered.push('second')), host.enter(1, () => entered.push('third'))];
  assert.deepEqual([entered, host.isOver], [['first'], true]);
  clock.now = 10;
  await waiting[0];
  assert.deepEqual([entered, host.isOver], [['first', 'second'], true]);
  clock.now = 1e9;
  await waiting[1];
  assert.deepEqual(entered, ['first', 'second', 'third']);
});

test('the error of a connection that waited reaches its caller', async () => {
  const { budget, clock } = made();
  const host = budget.of('10.0.0.1');
  const fail = (): never => {
    throw new RangeError('no peer');
  };
  await assert.rejects(host.enter(51, fail), RangeError);
  const failing = assert.rejects(host.enter(1, fail), RangeError);
  clock.now = 10;
  await failing;
});
