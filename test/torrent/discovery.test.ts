import assert from 'node:assert/strict';
import { test } from 'node:test';
import { retryMs } from '../../src/torrent/discovery.ts';

test('lookups that find nobody become rarer, down to one a minute', () => {
  const seconds = Array.from({ length: 8 }, (_, inVain) => retryMs(inVain) / 1000);
  assert.deepEqual(seconds, [2, 4, 8, 16, 32, 60, 60, 60]);
});
