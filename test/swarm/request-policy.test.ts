/** How much is asked of a peer, and who takes over: decided from rates alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { takesOver, windowOf } from '../../src/swarm/request-policy.ts';

const KIB = 1024;

test('a peer that nobody has measured is asked for enough for a small NAR', () => {
  assert.equal(windowOf({ rate: undefined, silentMs: 0 }, 0), 256 * KIB);
});

test('a peer that is known gets what it sends in a second, over all its connections what it sends in two', () => {
  assert.equal(windowOf({ rate: 20_000, silentMs: 0 }, 0), 32 * KIB, 'two blocks at least');
  assert.equal(windowOf({ rate: 20_000, silentMs: 0 }, 64 * KIB), 0);
  assert.equal(windowOf({ rate: 500_000, silentMs: 0 }, 0), 500_000);
  assert.equal(windowOf({ rate: 500_000, silentMs: 0 }, 900_000), 100_000);
  assert.equal(windowOf({ rate: 200_000_000, silentMs: 0 }, 50_000_000), 1024 * KIB);
});

test('a silent peer has one block', () => {
  assert.equal(windowOf({ rate: 500_000, silentMs: 1_001 }, 0), 16 * KIB);
});

test('blocks go from silent and slow peers to those that send', () => {
  const fast = { rate: 1_000_000, silentMs: 0 };
  const slow = { rate: 20_000, silentMs: 0 };
  const silent = { rate: 0, silentMs: 2_000 };
  const stranger = { rate: undefined, silentMs: 100 };
  assert.equal(takesOver(fast, slow), true);
  assert.equal(takesOver(fast, silent), true);
  assert.equal(takesOver(stranger, silent), true);
  assert.equal(takesOver(fast, fast), false);
  assert.equal(takesOver(slow, fast), false);
  assert.equal(takesOver(fast, stranger), false, 'it has not had the time to send');
  assert.equal(takesOver(silent, silent), false);
});
