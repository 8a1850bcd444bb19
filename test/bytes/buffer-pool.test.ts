import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferPool } from '../../src/bytes/buffer-pool.ts';

test('gives a buffer to the next taker after its last user', () => {
  const pool = new BufferPool();
  const buffer = pool.take(300_000);
  pool.lend(buffer, 2);
  for (const slice of [buffer, buffer.subarray(10), buffer.subarray(20, 30)]) {
    assert.notEqual(pool.take(300_000).buffer, buffer.buffer);
    pool.giveBack(slice);
  }
  assert.equal(pool.take(300_000).buffer, buffer.buffer);
});

test('ignores buffers that are not lent, or no longer in use', () => {
  const pool = new BufferPool();
  const buffer = pool.take(16);
  pool.giveBack(buffer);
  pool.giveBack(buffer);
  pool.lend(buffer, 1);
  assert.equal(pool.take(16).buffer, buffer.buffer);
  assert.notEqual(pool.take(16).buffer, buffer.buffer);
  pool.giveBack(Buffer.alloc(16));
});

test('uses a longer free buffer instead of a new one', () => {
  const pool = new BufferPool();
  const buffer = pool.take(4_000_000);
  pool.giveBack(buffer);
  assert.equal(pool.take(2_000_000).buffer, buffer.buffer);
});

test('lends much while many bytes are in use', () => {
  const pool = new BufferPool();
  const buffers = Array.from({ length: 4 }, () => pool.take(16 * 1024 * 1024));
  assert.equal(pool.isLendingMuch, true);
  for (const buffer of buffers) pool.giveBack(buffer);
  assert.equal(pool.isLendingMuch, false);
});
