/** Decides whether a second source is asked, from rates alone. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { challengeOf, outcomeOf, TrialGate } from '../../../src/fetch/scheduler/hedge.ts';
import { SourceRate } from '../../../src/discovery/source-rate.ts';

const kB = 1_000;
const SLOW = { ageMs: 2_000, rate: 2 * kB, leftBytes: 300 * kB };
const UNKNOWN = { rate: undefined, flows: 0, mayTry: true };

suite('challengeOf', () => {
  test('an unmeasured source is tried, and a faster one takes over', () => {
    assert.equal(challengeOf(SLOW, UNKNOWN, false), 'trial');
    assert.equal(challengeOf(SLOW, { rate: 100 * kB, flows: 3, mayTry: false }, false), 'known');
  });

  test('a transfer keeps its source at its start, near its end, and while no other is faster', () => {
    assert.equal(challengeOf({ ...SLOW, ageMs: 1_000 }, UNKNOWN, false), undefined);
    assert.equal(challengeOf({ ...SLOW, leftBytes: 3 * kB }, UNKNOWN, false), undefined);
    assert.equal(challengeOf(SLOW, { rate: 2 * kB, flows: 0, mayTry: false }, false), undefined);
    assert.equal(challengeOf(SLOW, { rate: 20 * kB, flows: 7, mayTry: false }, false), undefined, 'its share is small');
  });

  test('while the line is silent, no source is judged', () => {
    const silent = { ...SLOW, rate: 0 };
    assert.equal(challengeOf(silent, { rate: 100 * kB, flows: 0, mayTry: false }, true), undefined);
    assert.equal(challengeOf(silent, { rate: 100 * kB, flows: 0, mayTry: true }, true), 'trial');
  });
});

test('the second source wins once it is plainly ahead, and has lost after three seconds', () => {
  assert.equal(outcomeOf({ ageMs: 300, bytes: 130, bytesOfFirst: 100 }), 'won');
  assert.equal(outcomeOf({ ageMs: 300, bytes: 0, bytesOfFirst: 0 }), undefined);
  assert.equal(outcomeOf({ ageMs: 2_900, bytes: 100, bytesOfFirst: 100 }), undefined);
  assert.equal(outcomeOf({ ageMs: 3_000, bytes: 100, bytesOfFirst: 100 }), 'lost');
});

test('there is one trial at a time, and lost trials become rarer', () => {
  const gate = new TrialGate();
  assert.equal(gate.mayTry(0), true);
  gate.begin();
  assert.equal(gate.mayTry(0), false);
  gate.end('void', 0);
  assert.equal(gate.mayTry(0), true, 'to lack a NAR says nothing about a source');
  for (const [now, pause] of [
    [0, 15_000],
    [100_000, 30_000],
    [200_000, 60_000],
  ] as const) {
    gate.begin();
    gate.end('lost', now);
    assert.deepEqual([gate.mayTry(now + pause - 1), gate.mayTry(now + pause)], [false, true]);
  }
});

test('while no source sends anything, lost trials do not count, and the next one is five seconds after the last', () => {
  const gate = new TrialGate();
  gate.begin();
  gate.end('lost', 0);
  assert.deepEqual([gate.mayTry(2_000), gate.mayTry(2_000, true)], [false, true]);
  gate.begin(true);
  assert.equal(gate.mayTry(3_000, true), false, 'one at a time');
  gate.end('lost', 5_000);
  assert.deepEqual([gate.mayTry(9_999, true), gate.mayTry(10_000, true), gate.mayTry(10_000)], [false, true, false]);
  assert.equal(gate.mayTry(15_000), true, 'it has not become rarer');
  gate.begin(true);
  gate.end('won', 15_000);
  assert.deepEqual([gate.mayTry(44_999), gate.mayTry(45_000)], [false, true]);
});

test('the rate of a source counts only the time in which it worked', () => {
  const rate = new SourceRate();
  rate.begin(0);
  assert.equal(rate.rate(100), undefined);
  for (let now = 100; now <= 1_000; now += 100) rate.add(10 * kB, now);
  rate.end(1_000);
  const worked = rate.rate(1_000) ?? 0;
  assert.ok(worked > 90 * kB && worked < 120 * kB, `${worked}`);
  assert.equal(rate.rate(60_000), worked, 'idle, it is as good as it was');
  rate.begin(60_000);
  assert.equal(rate.rate(70_000), 0, 'asked, and silent');

  const quick = new SourceRate();
  quick.begin(0);
  quick.add(300 * kB, 5);
  quick.end(5);
  assert.equal(quick.rate(5), 1_200 * kB, 'at least that: a transfer of 5 ms tells no more');
});
