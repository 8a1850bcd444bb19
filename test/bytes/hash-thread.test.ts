/** The hash thread gives what the caller's own thread gives: the same questions, before it is started and after. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { hashInThread, newSha256, placeIfRight, sha1 } from '../../src/bytes/hash-thread.ts';
import { takeBuffer } from '../../src/bytes/lent-buffers.ts';

const sha256 = (...chunks: readonly Uint8Array[]): string => {
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
    let dir: string;
    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'narswarm-hash-'));
      if (where === 'in a thread of its own') {
        assert.ok(typeof sha1(Buffer.alloc(1)) === 'string', 'it was not started before');
        hashInThread(1e12);
        assert.equal(typeof sha1(Buffer.alloc(1)) !== 'string', availableParallelism() > 1);
      }
    });
    after(() => rm(dir, { recursive: true, force: true }));

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
        assert.equal(await stream.digest(), sha256(first, second, third));
        assert.equal(await newSha256().digest(), sha256());
      });
      await Promise.all(many);
    });

    test('bytes become a file if they are right, and leave nothing if they are not', async () => {
      const [bytes] = chunks() as [Buffer];
      const place = { path: join(dir, 'partial'), target: join(dir, 'target'), sha256: sha256(bytes) };
      const wrong = Buffer.from(bytes);
      wrong[5] = (wrong[5] ?? 0) ^ 1;
      assert.equal(await placeIfRight(wrong, place), sha256(wrong));
      assert.deepEqual(await readdir(dir), []);
      assert.equal(await placeIfRight(bytes, place), place.sha256);
      assert.deepEqual(await readdir(dir), ['target']);
      assert.ok(bytes.equals(await readFile(place.target)));
    });

    test('what the file system says comes through with its code', async () => {
      const [bytes] = chunks() as [Buffer];
      const place = { path: join(dir, 'no/such/folder'), target: join(dir, 'target'), sha256: sha256(bytes) };
      await assert.rejects(placeIfRight(bytes, place), { code: 'ENOENT' });
    });
  });
}
