import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Silence } from '../../src/exchange/silence.ts';

/** Times of a connection that a test changes. */
function made(): {
  silence: Silence;
  connection: { heardAtMs: number; heldUntilMs: number };
  line: { backAtMs: number; isOut: boolean };
} {
  const connection = { heardAtMs: 0, heldUntilMs: 0 };
  const line = { backAtMs: 0, isOut: false };
  const lineTimes = {
    get backAtMs() {
      return line.backAtMs;
    },
    isSilent: () => line.isOut,
  };
  return { silence: new Silence(connection, lineTimes), connection, line };
}

test('a member that is asked and sends nothing is dead after five seconds', () => {
  const { silence, connection } = made();
  silence.onAsked(1_000);
  assert.deepEqual(
    [6_000, 6_001].map((nowMs) => silence.isDead(nowMs, 0, false)),
    [false, true],
  );
  connection.heardAtMs = 3_000; // a sign of life
  assert.deepEqual(
    [8_000, 8_001].map((nowMs) => silence.isDead(nowMs, 0, false)),
    [false, true],
  );
});

test('time in which this process, its own limit or the line is the reason does not count', () => {
  for (const later of ['woke', 'limit', 'line'] as const) {
    const { silence, connection, line } = made();
    silence.onAsked(0);
    if (later === 'limit') connection.heldUntilMs = 4_000;
    if (later === 'line') line.backAtMs = 4_000;
    const wokeAtMs = later === 'woke' ? 4_000 : 0;
    assert.deepEqual(
      [9_000, 9_001].map((nowMs) => silence.isDead(nowMs, wokeAtMs, false)),
      [false, true],
      later,
    );
  }
});

test('a member that has sent before has fifteen seconds while no peer sends', () => {
  const { silence, line } = made();
  silence.onAsked(0);
  line.isOut = true;
  assert.deepEqual(
    [15_000, 15_001].map((nowMs) => silence.isDead(nowMs, 0, true)),
    [false, true],
  );
  assert.equal(silence.isDead(5_001, 0, false), true);
});
