import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyInto, giveBack, takeBuffer } from '../../src/bytes/lent-buffers.ts';

const numbered = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index % 251);

test('copies bytes of any view to any place', () => {
  for (const from of [0, 1, 13]) {
    const bytes = numbered(100_000).subarray(from, from + 70_000);
    for (const offset of [0, 3, 8]) {
      const target = takeBuffer(80_000).fill(0);
      copyInto(target, bytes, offset);
      assert.deepEqual(Buffer.from(target.subarray(offset, offset + 70_000)), Buffer.from(bytes));
      assert.ok(target.subarray(offset + 70_000).every((byte) => byte === 0));
      giveBack(target);
    }
  }
});
