import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HashThread } from '../../src/store/hash-thread.ts';

test('a thread that has ended says so, and is not waited for', { timeout: 20_000 }, async () => {
  const thread = new HashThread();
  assert.equal(await thread.read('/nowhere', undefined), undefined);
  assert.equal(thread.hasEnded, false);
  await thread.close();
  assert.equal(thread.hasEnded, true);
  await assert.rejects(thread.read('/nowhere', undefined), /has ended/);
});
