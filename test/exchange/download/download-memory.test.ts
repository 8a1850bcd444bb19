/** Which bytes of a download count as being in memory. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { DownloadMemory } from '../../../src/exchange/download/download-memory.ts';

const MIB = 1024 * 1024;

suite('DownloadMemory', () => {
  test('nothing is requested while 32 MiB are in memory', () => {
    const memory = new DownloadMemory();
    memory.take(31 * MIB);
    assert.equal(memory.isFull, false);
    memory.take(MIB);
    assert.equal(memory.isFull, true);
    assert.equal(memory.free(MIB), true, 'others may request again');
    assert.equal(memory.isFull, false);
    assert.equal(memory.free(MIB), false);
  });

  test('ranges that wait for earlier ones keep only other such ranges from being requested', () => {
    const memory = new DownloadMemory();
    memory.takeAhead(31 * MIB);
    assert.equal(memory.isFullAhead, false);
    memory.take(MIB);
    assert.equal(memory.isFullAhead, true);
    assert.equal(memory.isFull, false);
    memory.freeAhead(MIB);
    assert.equal(memory.isFullAhead, false);
  });
});
