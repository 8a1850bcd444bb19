import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SteadyRate } from '../../src/bytes/steady-rate.ts';

/** Adds bytes every tenth of a second. */
function addAll(rate: SteadyRate, { from, to, bytes }: { from: number; to: number; bytes: number }): void {
  for (let nowMs = from; nowMs < to; nowMs += 100) rate.add(bytes, nowMs);
}

test('the time for more bytes is known once the rate is steady', () => {
  const rate = new SteadyRate();
  addAll(rate, { from: 0, to: 2_000, bytes: 100 });
  assert.equal(rate.secondsFor(10_000, 2_000), undefined, 'too early');
  addAll(rate, { from: 2_000, to: 4_000, bytes: 100 });
  assert.equal(Math.round(rate.secondsFor(10_000, 4_000) ?? 0), 10);
});

test('after a change of the rate, the time is not known for a while', () => {
  const rate = new SteadyRate();
  addAll(rate, { from: 0, to: 10_000, bytes: 100 });
  addAll(rate, { from: 10_000, to: 12_000, bytes: 500 });
  assert.equal(rate.secondsFor(10_000, 12_000), undefined);
  addAll(rate, { from: 12_000, to: 20_000, bytes: 500 });
  assert.equal(Math.round(rate.secondsFor(10_000, 20_000) ?? 0), 2);
});

test('while nothing comes, no time is known', () => {
  const rate = new SteadyRate();
  addAll(rate, { from: 0, to: 10_000, bytes: 100 });
  assert.equal(rate.secondsFor(10_000, 13_000), undefined);
});
