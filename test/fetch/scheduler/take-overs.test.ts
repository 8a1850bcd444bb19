/** Decides when a NAR that another process fetches is taken over, from a clock, claims and progress alone. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { areOthersSooner, TakeOvers } from '../../../src/fetch/scheduler/take-overs.ts';

const MB = 1_000_000;

/** @param random decides the pauses; 0.5 is the average */
function takeOvers(random = 0.5) {
  const clock = { ms: 0 };
  const made = new TakeOvers(
    () => clock.ms,
    () => random,
  );
  return { clock, made };
}

function nar(heldBytes = 0): { job: { sizeBytes: number }; partial: { heldBytes: number } } {
  return { job: { sizeBytes: 100 * MB }, partial: { heldBytes } };
}

suite('areOthersSooner', () => {
  const claimed = (leftMB: number, rateMB: number) => ({
    sizeBytes: 10 * MB,
    leftBytes: 10 * MB,
    claim: { heldBytes: (10 - leftMB) * MB, bytesPerSec: rateMB * MB },
  });

  test('others that finish their NARs at the same time are sooner than our upstreams for all of them', () => {
    assert.equal(areOthersSooner([claimed(8, 1), claimed(8, 1)], 2.4 * MB), true); // 8 s against 8.3 s
    assert.equal(areOthersSooner([claimed(8, 1), claimed(8, 1)], 2.6 * MB), false);
  });

  test('one that does not get on is not sooner', () => {
    assert.equal(areOthersSooner([claimed(8, 0), claimed(1, 5)], MB), false);
  });

  test('while nothing is known of the upstreams, others are waited for only if they are done soon', () => {
    assert.equal(areOthersSooner([claimed(7, 1), claimed(1, 5)], undefined), true);
    assert.equal(areOthersSooner([claimed(9, 1), claimed(1, 5)], undefined), false);
    assert.equal(areOthersSooner([claimed(1, 0)], undefined), false);
  });

  test('no time is counted for a NAR that has arrived and is being checked', () => {
    assert.equal(areOthersSooner([claimed(0, 0)], MB), true);
  });
});

suite('TakeOvers', () => {
  test('nothing is taken over during the first wait, and for some seconds more', () => {
    const { clock, made } = takeOvers();
    clock.ms = 100_000;
    assert.equal(made.mayTry(true), false);
    assert.equal(made.mayTry(false), false);
    clock.ms += 3_999;
    assert.equal(made.mayTry(false), false);
    clock.ms += 1;
    assert.equal(made.mayTry(false), true);
  });

  test('machines of one room do not try at the same time', () => {
    const waits = [0, 0.25, 0.99].map((random) => {
      const { clock, made } = takeOvers(random);
      while (!made.mayTry(false)) clock.ms += 10;
      return clock.ms;
    });
    assert.deepEqual(waits, [2_000, 3_000, 5_960]);
  });

  test('a trial runs for two seconds, and continues if the other process would finish later', () => {
    const { clock, made } = takeOvers();
    const task = nar();
    made.begin(task);
    const claim = { heldBytes: 50 * MB, bytesPerSec: 10 * MB };
    clock.ms += 1_999;
    assert.equal(made.isWorthIt(task, claim), true);
    clock.ms += 1;
    task.partial.heldBytes = 30 * MB; // 15 MB/s: 70 MB are left, 4.7 s against 5
    assert.equal(made.isWorthIt(task, claim), true);
    task.partial.heldBytes = 28 * MB; // 14 MB/s: 72 MB are left, 5.1 s
    assert.equal(made.isWorthIt(task, claim), false);
  });

  test('a NAR that was not taken over is left to the process that is further', () => {
    assert.equal(takeOvers().made.isWorthIt(nar(), { heldBytes: 1, bytesPerSec: 0 }), false);
  });

  test('a process that claims to fetch and does not advance is overtaken', () => {
    const { clock, made } = takeOvers();
    const task = nar();
    made.begin(task);
    clock.ms += 2_000;
    task.partial.heldBytes = 1;
    assert.equal(made.isWorthIt(task, { heldBytes: 90 * MB, bytesPerSec: 0 }), true);
  });

  test('after each success, twice as many NARs are tried at a time', () => {
    const { clock, made } = takeOvers();
    made.mayTry(false);
    clock.ms += 4_000;
    const first = nar();
    made.begin(first);
    assert.equal(made.mayTry(false), false);
    made.end(first, 'fetched');
    made.begin(nar());
    assert.equal(made.mayTry(false), true);
    made.begin(nar());
    assert.equal(made.mayTry(false), false);
  });

  test('after each lost trial, the next one is later, by a minute at most', () => {
    const { clock, made } = takeOvers();
    const waits: number[] = [];
    for (let round = 0; round < 6; round++) {
      const startedAtMs = clock.ms;
      while (!made.mayTry(false)) clock.ms += 500;
      waits.push(clock.ms - startedAtMs);
      const task = nar();
      made.begin(task);
      made.end(task, 'left');
    }
    assert.deepEqual(waits, [4_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
  });
});
