/** The range that the seeder of a crowd sends next. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeastSent } from '../../../src/exchange/answers/least-sent.ts';
import type { FilePrefix } from '../../../src/exchange/messages/messages.ts';

const RANGES = [0, 1, 2].map((from) => ({ prefix: 'aaaaaaaaaaaaa' as FilePrefix, from }));
const [first, second, third] = RANGES as [(typeof RANGES)[0], (typeof RANGES)[0], (typeof RANGES)[0]];

test('the range that was given least is chosen, the first of several', () => {
  const sent = new LeastSent();
  assert.equal(
    sent.choose(RANGES, () => true),
    0,
  );
  for (const range of [first, first, second, third]) sent.give(range).end(true, 0);
  assert.equal(
    sent.choose(RANGES, () => true),
    1,
  );
  assert.equal(
    sent.choose(RANGES, (index) => index !== 1),
    2,
  );
  assert.equal(
    sent.choose(RANGES, () => false),
    -1,
  );
});

test('a range is on its way for as long as it is being sent, and a moment longer', () => {
  const sent = new LeastSent();
  const giving = sent.give(first);
  assert.ok(sent.isOnItsWay(first, performance.now() + 3_600_000)); // over such a slow line
  giving.end(true, 1_000_000);
  assert.ok(sent.isOnItsWay(first, 1_000_001));
  assert.ok(!sent.isOnItsWay(first, 1_060_000));
  assert.ok(!sent.isOnItsWay(second, 1_000_001));
});

test('a range that was not sent to its end is on its way no longer, and does not count', () => {
  const sent = new LeastSent();
  const giving = sent.give(first);
  giving.end(false, 1_000_000);
  giving.end(true, 1_000_000); // the last bytes leave the socket when it is closed
  assert.ok(!sent.isOnItsWay(first, 1_000_000));
  assert.equal(sent.count(first), 0);
});

test('a range that is sent to two members is on its way until both have it', () => {
  const sent = new LeastSent();
  const [one, other] = [sent.give(first), sent.give(first)];
  one.end(false, 0);
  assert.ok(sent.isOnItsWay(first, 1_000_000));
  other.end(true, 0);
  assert.ok(!sent.isOnItsWay(first, 1_000_000));
  assert.equal(sent.count(first), 1);
});
