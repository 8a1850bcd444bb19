import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Trickle } from '../../../src/http/transfer/trickle.ts';

const SECOND = 1_000;

/** Returns the time at which an answer with `bytes` each `everyMs` is given up. Undefined: not within an hour. */
function endOf(bytes: number, everyMs: number, limitMs = 300 * SECOND): number | undefined {
  const trickle = new Trickle(limitMs, 0);
  for (let now = everyMs; now < 3_600 * SECOND; now += everyMs) if (trickle.take(bytes, now)) return now;
  return undefined;
}

suite('an answer', () => {
  test('of at least 1 byte/s goes on, as in Nix', () => {
    assert.equal(endOf(1, SECOND), undefined);
    assert.equal(endOf(65_536, 299 * SECOND), undefined);
    assert.equal(endOf(5, 290 * SECOND), undefined);
    assert.equal(endOf(1, 100, 150), undefined);
    assert.equal(endOf(2, 2 * SECOND, 4 * SECOND), undefined);
  });

  test('of less is given up after the limit', () => {
    assert.equal(endOf(1, 2 * SECOND), 300 * SECOND);
    assert.equal(endOf(4, 9 * SECOND), 306 * SECOND);
    assert.equal(endOf(1, 3 * SECOND, 4 * SECOND), 6 * SECOND);
  });

  test('that was read late is not blamed for the time in between', () => {
    const trickle = new Trickle(10 * SECOND, 0);
    assert.equal(trickle.take(1, 9 * SECOND), false);
    trickle.resume(60 * SECOND);
    assert.equal(trickle.take(1, 61 * SECOND), false);
    assert.equal(trickle.take(1, 70 * SECOND), true);
  });
});
