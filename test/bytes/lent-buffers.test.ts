import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyInto, giveBack, lend, takeBuffer } from '../../src/bytes/lent-buffers.ts';

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

test('gives a buffer to the next taker after its last user', () => {
  const buffer = takeBuffer(300_000);
  lend(buffer, 2);
  for (const slice of [buffer, buffer.subarray(10), buffer.subarray(20, 30)]) {
    assert.notEqual(takeBuffer(300_000).buffer, buffer.buffer);
    giveBack(slice);
  }
  assert.equal(takeBuffer(300_000).buffer, buffer.buffer);
});

test('ignores buffers that are not lent, or no longer in use', () => {
  const buffer = takeBuffer(16);
  giveBack(buffer);
  giveBack(buffer);
  lend(buffer);
  assert.equal(takeBuffer(16).buffer, buffer.buffer);
  assert.notEqual(takeBuffer(16).buffer, buffer.buffer);
  giveBack(Buffer.alloc(16));
});

test('uses a longer free buffer instead of a new one', () => {
  const buffer = takeBuffer(4_000_000);
  giveBack(buffer);
  assert.equal(takeBuffer(2_000_000).buffer, buffer.buffer);
});
