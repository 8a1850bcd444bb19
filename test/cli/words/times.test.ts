import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whenInWords } from '../../../src/cli/words/times.ts';

const NOW = new Date(2026, 10, 20, 12, 0, 0);

test('people read local times, and how long ago they were', () => {
  const words = (...at: [number, number, number, number, number]): string => whenInWords(new Date(...at), NOW);
  assert.equal(words(2026, 10, 20, 12, 0), 'just now');
  assert.equal(words(2026, 10, 20, 11, 48), '12 min ago, 11:48');
  assert.equal(words(2026, 10, 20, 2, 14), '9 h ago, 02:14');
  assert.equal(words(2026, 10, 19, 23, 50), 'yesterday 23:50');
  assert.equal(words(2026, 10, 10, 2, 14), '10 days ago, 2026-11-10 02:14');
  assert.equal(words(2026, 10, 20, 15, 30), 'in 3 h, 15:30');
  assert.equal(words(2026, 10, 21, 0, 5), 'tomorrow 00:05');
  assert.equal(words(2026, 11, 4, 2, 14), 'in 14 days, 2026-12-04 02:14');
});

test('a text that is no time stays as it is', () => assert.equal(whenInWords('soon', NOW), 'soon'));
