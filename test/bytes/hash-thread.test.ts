/** The hash thread gives the same results as the caller's own thread: the same questions before and after its start. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { mkdtempDisposable, open, readFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashInThread, newSha256, saveInThread, sha1, sha256, writeInThread } from '../../src/bytes/hash-thread.ts';
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

    test('computes SHA-1 and SHA-256, of many buffers at a time, too', async () => {
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

    test('computes the SHA-256 of a file, and reports a missing one', async () => {
      await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
      const bytes = randomBytes(1_500_000);
      await using file = await open(join(dir.path, 'file'), 'w+');
      await file.write(bytes);
      const stream = newSha256();
      await stream.update([bytes.subarray(0, 10)]);
      assert.equal(await stream.read({ descriptor: file.fd, offset: 10 }, 1_200_000), 1_200_000);
      assert.equal(await stream.read({ descriptor: file.fd, offset: 1_200_010 }, 1_000_000), 299_990);
      assert.equal(await stream.digest(), expected(bytes));
    });

    test('computes the SHA-256 of bytes at once', async () => {
      for (const bytes of chunks()) assert.equal(await sha256(bytes), expected(bytes));
    });
  });
}

describe('in a thread of its own', { skip: availableParallelism() < 2 && 'there is one processor' }, () => {
  before(() => hashInThread(1e12));

  test('writes bytes at their offset, hashed or not', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const [first, second, third] = chunks() as [Buffer, Buffer, Buffer];
    await using file = await open(join(dir.path, 'file'), 'w+');
    const stream = newSha256();
    assert.equal(stream.writes, true);
    await writeInThread({ descriptor: file.fd, offset: first.length + second.length }, [third]);
    await stream.update([first, second], { descriptor: file.fd, offset: 0 });
    assert.equal(await stream.digest(), expected(first, second));
    assert.deepEqual(await readFile(join(dir.path, 'file')), Buffer.concat([first, second, third]));
  });

  test('writes a file only if its bytes are right', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const path = join(dir.path, 'file');
    const [bytes] = chunks() as [Buffer];
    assert.equal(await saveInThread(path, bytes, expected(Buffer.alloc(1))), expected(bytes));
    await assert.rejects(readFile(path), { code: 'ENOENT' });
    assert.equal(await saveInThread(path, bytes, expected(bytes)), expected(bytes));
    assert.deepEqual(await readFile(path), bytes);
  });

  test('errors of the system keep their code', async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'narswarm-hash-'));
    const bytes = Buffer.alloc(10);
    await assert.rejects(async () => saveInThread(join(dir.path, 'no', 'file'), bytes, expected(bytes)), {
      code: 'ENOENT',
    });
    await using file = await open('/dev/full', 'w');
    await assert.rejects(async () => writeInThread({ descriptor: file.fd, offset: 0 }, [bytes]), { code: 'ENOSPC' });
    await assert.rejects(async () => newSha256().update([bytes], { descriptor: file.fd, offset: 0 }), {
      code: 'ENOSPC',
    });
  });
});
