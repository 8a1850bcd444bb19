import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Patience } from '../../../src/exchange/link/patience.ts';
import { Silence } from '../../../src/exchange/link/silence.ts';

/** Times that a test changes. @param silencesMs the silences that members have ended */
function made(silencesMs: readonly number[] = []) {
  const connection = { heardAtMs: 0, heldUntilMs: 0 };
  const line = { backAtMs: 0, isOut: false };
  const lineTimes = {
    get backAtMs() {
      return line.backAtMs;
    },
    isSilent: () => line.isOut,
  };
  const clock = { ms: 0 };
  const patience = new Patience(() => clock.ms);
  /** Lets time pass in which this process runs, and looks. */
  const run = (ms: number): void => {
    for (const untilMs = clock.ms + ms; clock.ms < untilMs;) {
      clock.ms += Math.min(250, untilMs - clock.ms);
      patience.look(silencesMs);
    }
  };
  return { silence: new Silence(connection, lineTimes, patience), connection, line, clock, patience, run };
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

test('a member is late after a second without a byte', () => {
  const { silence, clock, run } = made();
  silence.onAsked(clock.ms);
  run(1_000);
  assert.equal(silence.isLate(clock.ms), false);
  run(1);
  assert.equal(silence.isLate(clock.ms), true);
  silence.onPayload(clock.ms);
  assert.equal(silence.isLate(clock.ms), false);
});

test('time in which this process does not run makes nobody late', () => {
  const { silence, clock, patience, run } = made();
  silence.onAsked(clock.ms);
  clock.ms += 60_000; // what the member sends meanwhile is not read
  assert.equal(silence.isLate(clock.ms), false);
  patience.look([]);
  assert.equal(silence.isLate(clock.ms), false);
  run(501);
  assert.equal(silence.isLate(clock.ms), true, 'but time in which it runs does');
});

test('a member that went on after a long silence may be silent for twice as long, at most five seconds', () => {
  for (const [silentMs, againMs] of [
    [400, 1_000],
    [900, 1_800],
    [2_000, 4_000],
    [60_000, 5_000],
  ] as const) {
    const { silence, clock, run } = made();
    silence.onAsked(clock.ms);
    run(silentMs);
    silence.onPayload(clock.ms);
    run(againMs);
    assert.equal(silence.isLate(clock.ms), false, `${silentMs}`);
    run(1);
    assert.equal(silence.isLate(clock.ms), true, `${silentMs}`);
  }
});

test('an earlier silence counts half after fifteen seconds', () => {
  const { silence, clock, run } = made();
  silence.onAsked(clock.ms);
  run(2_000);
  for (let second = 0; second <= 15; second++) {
    silence.onPayload(clock.ms);
    if (second < 15) run(1_000);
  }
  run(2_000);
  assert.equal(silence.isLate(clock.ms), false);
  run(1);
  assert.equal(silence.isLate(clock.ms), true);
});

test('if half of all members are silent for long and then go on, each member may be', () => {
  for (const [silencesMs, mostMs] of [
    [[0, 0, 1_500], 1_000],
    [[0, 1_500, 2_000], 3_000],
    [[1_500, 2_000], 3_000],
  ] as const) {
    const { silence, clock, patience, run } = made(silencesMs);
    silence.onAsked(clock.ms);
    patience.look(silencesMs);
    run(mostMs);
    assert.equal(silence.isLate(clock.ms), false, silencesMs.join());
    run(1);
    assert.equal(silence.isLate(clock.ms), true, silencesMs.join());
  }
});
