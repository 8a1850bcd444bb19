import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { XzStream } from '../../../src/store/decoding/xz-stream.ts';
import { tempDir } from '../store-fixture.ts';

/** Decodes an xz file of zeros. @returns what {@link XzStream.end} does, and the output */
async function decodeZeros(t: TestContext, size: number, maxBytes: number): Promise<[isWhole: boolean, out: string]> {
  const xz = spawnSync('xz', ['-c', '-0'], { input: Buffer.alloc(size) }).stdout;
  const out = join(await tempDir(t), 'out');
  await using to = await open(out, 'w');
  await using stream = new XzStream(to.fd, maxBytes);
  await stream.write(xz);
  return [await stream.end(), out];
}

test('decodes bytes that arrive into a file', async (t) => {
  const [isWhole, out] = await decodeZeros(t, 1_000_000, 1_000_000);
  assert.equal(isWhole, true);
  assert.deepEqual(await readFile(out), Buffer.alloc(1_000_000));
});

test('stops at the limit', async (t) => {
  const [isWhole, out] = await decodeZeros(t, 50_000_000, 2_000_000);
  assert.equal(isWhole, false);
  assert.ok((await stat(out)).size <= 2_000_384);
});
