import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Line } from '../../src/discovery/line.ts';

test('a line that was out is back with the first byte, and a slow line is never out', () => {
  const line = new Line();
  assert.equal(line.isSilent(0), true);
  for (const nowMs of [0, 500, 2_500, 4_500]) line.onBytes(nowMs);
  assert.equal(line.backAtMs, 0);
  assert.deepEqual([line.isSilent(5_000), line.isSilent(5_501)], [false, true]);
  line.onBytes(9_000);
  assert.equal(line.backAtMs, 9_000);
});
