import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateLimit } from '../../src/bytes/rate-limit.ts';

test('without a rate nothing waits', () => {
  assert.equal(new RateLimit().take(1e9, 5), 0);
});

test('bytes ahead of the rate wait until it has caught up', () => {
  const limit = new RateLimit(1000);
  assert.equal(limit.take(200, 10_000), 0, 'a fifth of a second may come at once');
  assert.equal(limit.take(100, 10_000), 100);
  assert.equal(limit.take(100, 10_050), 150);
  assert.equal(limit.take(0, 10_200), 0);
});

test('unused time is not saved', () => {
  const limit = new RateLimit(1000);
  limit.take(1, 0);
  assert.equal(limit.take(1200, 60_000), 1000);
});

test('bytes keep their place when the rate moves', () => {
  const clock = { nowMs: () => 10_000, date: () => new Date() };
  const limit = new RateLimit(undefined, { clock, burstMs: 0 });
  limit.moveTo(1000);
  assert.equal(limit.take(2000), 2000);
  limit.moveTo(4000);
  assert.equal(limit.take(4000), 1500);
  limit.moveTo(500);
  assert.equal(limit.debtMs, 12_000);
});

test('those who wait do so for as long as a rate that moves demands', async () => {
  const limit = new RateLimit();
  limit.moveTo(1);
  const first = Promise.resolve(limit.pace(1000)); // for a quarter of an hour
  const second = Promise.resolve(limit.pace(1_000_000_000));
  limit.moveTo(100_000);
  await first;
  const late = await Promise.race([second.then(() => 'late'), Promise.resolve('waits')]);
  assert.equal(late, 'waits');
  limit.moveTo(Infinity);
  await second;
});

test('pace waits, and ends with its signal', async () => {
  const limit = new RateLimit(1000);
  const startedAt = performance.now();
  await limit.pace(300);
  assert.ok(performance.now() - startedAt > 90);
  const stop = new AbortController();
  const waiting = Promise.resolve(limit.pace(60_000, stop.signal));
  stop.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});
