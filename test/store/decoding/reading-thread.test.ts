import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReadingThread } from '../../../src/store/decoding/reading-thread.ts';

test('returns the code of the system for a file that cannot be read', { timeout: 180_000 }, async () => {
  const thread = new ReadingThread();
  const found = await thread.read(import.meta.dirname, undefined); // as for EIO, open(2) succeeds and read(2) fails
  await thread.close();
  assert.ok(found !== undefined && 'code' in found);
  assert.equal(found.code, 'EISDIR');
});

test('reports that a thread has ended, and does not wait for it', { timeout: 180_000 }, async () => {
  const thread = new ReadingThread();
  assert.equal(await thread.read('/nowhere', undefined), undefined);
  assert.equal(thread.hasEnded, false);
  await thread.close();
  assert.equal(thread.hasEnded, true);
  await assert.rejects(thread.read('/nowhere', undefined), /has ended/);
});
