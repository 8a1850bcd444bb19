/** Memory for receivers that ask and do not read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SendBudget, type Receiver } from '../../src/wire/send-budget.ts';

const LIMIT = { timeout: 180_000 };

test('cuts off a receiver that does not read, although a small answer would still fit', LIMIT, async (t) => {
  const budget = new SendBudget(1_000_000);
  let isCutOff = false;
  const host = '127.0.0.1';
  const close = (): void => {
    isCutOff = true;
    budget.remove(stuck);
  };
  const stuck: Receiver = { host, heldBytes: 800_000, unreadSinceMs: -10_000, close };
  const other: Receiver = { host, heldBytes: 0, unreadSinceMs: undefined, close: () => assert.fail() };
  budget.add(stuck);
  budget.add(other);
  const keptAlive = setInterval(() => undefined, 1000); // the budget's own timer does not keep a process
  t.after(() => clearInterval(keptAlive));
  assert.equal(
    budget.take(stuck, 800_000, () => undefined),
    true,
  );
  const { promise: resumed, resolve: resume } = Promise.withResolvers<void>();
  assert.equal(budget.take(other, 256 * 1024, resume), false);
  await resumed;
  assert.ok(isCutOff);
  assert.equal(budget.take(other, 256 * 1024, resume), true);
});
