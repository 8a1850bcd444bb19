import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateMeter } from '../../src/bytes/rate-meter.ts';

test('returns the mean rate of the last two seconds', () => {
  const meter = new RateMeter(2000);
  assert.equal(meter.rate(0), 0);
  for (let atMs = 0; atMs <= 10_000; atMs += 100) meter.add(1000, atMs);
  const rate = meter.rate(10_000);
  assert.ok(rate > 9_500 && rate < 11_000, String(rate));
});

test('forgets the past, and does not count the first packet as a burst', () => {
  const meter = new RateMeter(2000);
  meter.add(1000, 0);
  assert.equal(meter.rate(1), 4000);
  assert.equal(meter.rate(3000), 0);
});
