/** The hash thread gives the same results as the caller's own thread: the same questions before and after its start. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { mkdtempDisposable, open, readFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { HashThread } from '../../src/bytes/hash-thread.ts';
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
    const thread = new HashThread();
    after(() => thread[Symbol.asyncDispose]());
    before(() => {
      if (where === 'in a thread of its own') {
        thread.startFor(1e6);
        assert.ok(typeof thread.sha1(Buffer.alloc(1)) === 'string', 'it is not worth a thread');
        thread.startFor(1e12);
        assert.equal(typeof thread.sha1(Buffer.alloc(1)) !== 'string', availableParallelism() > 1);
      }
    });

    test('computes SHA-1 and SHA-256, of many buffers at a time, too', async () => {
      const many = Array.from({ length: 20 }, async () => {
        const [first, second, third] = chunks() as [Buffer, Buffer, Buffer];
        assert.equal(await thread.sha1(first), createHash('sha1').update(first).digest('hex'));
        const stream = thread.newSha256();
        await stream.update([first, second]);
        const forgotten = thread.newSha256();
        await forgotten.update([third]);
        forgotten.forget();
        await stream.update([third]);
        assert.equal(await stream.digest(), expected(first, second, third));
        assert.equal(await thread.newSha256().digest(), expected());
      });
      await Promise.all(many);
    });

    test('computes the SHA-256 of a file, and reports a missing one', async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
      const bytes = randomBytes(1_500_000);
      await using file = await open(join(dir.path, 'file'), 'w+');
      await file.write(bytes);
      const stream = thread.newSha256();
      await stream.update([bytes.subarray(0, 10)]);
      assert.equal(await stream.read({ descriptor: file.fd, offset: 10 }, 1_200_000), 1_200_000);
      assert.equal(await stream.read({ descriptor: file.fd, offset: 1_200_010 }, 1_000_000), 299_990);
      assert.equal(await stream.digest(), expected(bytes));
    });

    test('computes the SHA-256 of bytes at once', async () => {
      for (const bytes of chunks()) assert.equal(await thread.sha256(bytes), expected(bytes));
    });
  });
}

describe('in a thread of its own', { skip: availableParallelism() < 2 && 'there is one processor' }, () => {
  const thread = new HashThread();
  before(() => thread.startFor(1e12));
  after(() => thread[Symbol.asyncDispose]());

  test('writes bytes at their offset, hashed or not', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const [first, second, third] = chunks() as [Buffer, Buffer, Buffer];
    await using file = await open(join(dir.path, 'file'), 'w+');
    const stream = thread.newSha256();
    assert.equal(stream.writes, true);
    await thread.write({ descriptor: file.fd, offset: first.length + second.length }, [third]);
    await stream.update([first, second], { descriptor: file.fd, offset: 0 });
    assert.equal(await stream.digest(), expected(first, second));
    assert.deepEqual(await readFile(join(dir.path, 'file')), Buffer.concat([first, second, third]));
  });

  test('writes a file only if its bytes are right', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const path = join(dir.path, 'file');
    const [bytes] = chunks() as [Buffer];
    assert.equal(await thread.save(path, bytes, expected(Buffer.alloc(1))), expected(bytes));
    await assert.rejects(readFile(path), { code: 'ENOENT' });
    assert.equal(await thread.save(path, bytes, expected(bytes)), expected(bytes));
    assert.deepEqual(await readFile(path), bytes);
  });

  test('errors of the system keep their code', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const bytes = Buffer.alloc(10);
    await assert.rejects(async () => thread.save(join(dir.path, 'no', 'file'), bytes, expected(bytes)), {
      code: 'ENOENT',
    });
    await using file = await open('/dev/full', 'w');
    await assert.rejects(async () => thread.write({ descriptor: file.fd, offset: 0 }, [bytes]), { code: 'ENOSPC' });
    await assert.rejects(async () => thread.newSha256().update([bytes], { descriptor: file.fd, offset: 0 }), {
      code: 'ENOSPC',
    });
  });

  test('works on the caller’s thread once it has ended', async () => {
    const ended = new HashThread();
    ended.startFor(1e12);
    const [bytes] = chunks() as [Buffer];
    assert.equal(await ended.sha256(bytes), expected(bytes));
    await ended[Symbol.asyncDispose]();
    assert.equal(ended.sha256(bytes), expected(bytes));
    assert.equal(ended.save('/nowhere', bytes, expected(bytes)), undefined);
    assert.equal(ended.newSha256().writes, false);
  });
});
