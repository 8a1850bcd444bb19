import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CircuitBreaker } from '../../../src/fetch/sources/circuit-breaker.ts';

test('a source is left alone after two failures in a row, for longer each time', () => {
  const breaker = new CircuitBreaker();
  breaker.noteFailure(0);
  assert.ok(breaker.mayAsk(0));
  breaker.noteAnswer();
  breaker.noteFailure(1);
  assert.ok(breaker.mayAsk(1), 'the answer in between counts');
  breaker.noteFailure(2);
  assert.equal(breaker.mayAsk(30_001), false);
  assert.equal(breaker.mayAsk(30_002), true);
  breaker.noteFailure(30_002);
  assert.equal(breaker.mayAsk(90_001), false);
  assert.equal(breaker.mayAsk(90_002), true);
});

test('failures of requests that were begun before do not prolong a pause', () => {
  const breaker = new CircuitBreaker();
  for (let request = 0; request < 64; request++) breaker.noteFailure(request);
  assert.equal(breaker.mayAsk(30_001), true);
});

test('after an answer two failures are needed again, and the pause is short again', () => {
  const breaker = new CircuitBreaker();
  for (const atMs of [0, 0, 30_000, 90_000]) breaker.noteFailure(atMs);
  breaker.noteAnswer();
  breaker.noteFailure(1_000_000);
  assert.ok(breaker.mayAsk(1_000_000));
  breaker.noteFailure(1_000_000);
  assert.ok(breaker.mayAsk(1_030_000));
});
