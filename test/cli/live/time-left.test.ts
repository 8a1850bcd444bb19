import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftInWords } from '../../../src/cli/live/time-left.ts';

test('the time left is rounded as people say it', () => {
  const of = [0.127, 4.9, 7, 41, 56, 61, 130, 599, 900, 3_500, 5_000, 10_000, 100_000];
  assert.deepEqual(of.map(leftInWords), [
    'less than 5 s left',
    'less than 5 s left',
    '10 s left',
    '45 s left',
    '1 min left',
    '2 min left',
    '3 min left',
    '10 min left',
    '15 min left',
    '1 h left',
    '1.5 h left',
    '3 h left',
    'more than a day left',
  ]);
});
