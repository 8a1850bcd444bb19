import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gapMs, intervalMs, spreadMs } from '../../src/discovery/announcement-times.ts';

test('the fewer neighbours there are, the sooner they answer a newcomer', () => {
  assert.deepEqual([0, 1, 30, 500].map(gapMs), [50, 50, 150, 1_000]);
  assert.deepEqual([0, 4, 30, 500].map(spreadMs), [0, 0, 130, 250]);
});

test('all machines of a network together send at most 200 packets a second', () => {
  for (const machines of [2, 10, 30, 200]) assert.ok((machines - 1) / (gapMs(machines - 1) / 1_000) <= 200);
});

test('a lost announcement is soon repeated, and a quiet network stays quiet', () => {
  const times = [1, 2, 3, 4, 10, 100].map((past) => intervalMs(past, 300_000));
  assert.deepEqual(times, [1_000, 2_000, 4_000, 8_000, 300_000, 300_000]);
  assert.equal(intervalMs(0, 300_000), 1_000); // nothing was announced yet
  assert.equal(intervalMs(5, 10), 1_000);
});
