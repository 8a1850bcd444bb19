/** The hash thread gives the same results as the caller's own thread: the same questions before and after its start. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { before, describe, test } from 'node:test';
import { hashInThread, newSha256, sha1, sha256 } from '../../src/bytes/hash-thread.ts';
import { takeBuffer } from '../../src/bytes/lent-buffers.ts';

const expected = (...chunks: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
};

/** Bytes in memory that the thread sees, and bytes that are copied to it. */
const chunks = (): Buffer[] => {
  const shared = takeBuffer(300_000).subarray(7, 200_007);
  shared.set(randomBytes(shared.length));
  return [shared, randomBytes(1), randomBytes(70_000)];
};

for (const where of ['in the caller’s thread', 'in a thread of its own']) {
  describe(where, () => {
    before(() => {
      if (where === 'in a thread of its own') {
        assert.ok(typeof sha1(Buffer.alloc(1)) === 'string', 'it was not started before');
        hashInThread(1e12);
        assert.equal(typeof sha1(Buffer.alloc(1)) !== 'string', availableParallelism() > 1);
      }
    });

    test('SHA-1 and SHA-256 are right, also of many at a time', async () => {
      const many = Array.from({ length: 20 }, async () => {
        const [first, second, third] = chunks() as [Buffer, Buffer, Buffer];
        assert.equal(await sha1(first), createHash('sha1').update(first).digest('hex'));
        const stream = newSha256();
        await stream.update([first, second]);
        const forgotten = newSha256();
        await forgotten.update([third]);
        forgotten.forget();
        await stream.update([third]);
        assert.equal(await stream.digest(), expected(first, second, third));
        assert.equal(await newSha256().digest(), expected());
      });
      await Promise.all(many);
    });

    test('SHA-256 of bytes at once', async () => {
      for (const bytes of chunks()) assert.equal(await sha256(bytes), expected(bytes));
    });
  });
}
