/** Files that are read in the background, for somebody who waits or for nobody. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { narHashOf } from '../../src/nix/hash.ts';
import { BackgroundReader, type Urgency } from '../../src/serve/background-reader.ts';
import { tempDir } from '../store/store-fixture.ts';
import { niceValues, openedForWriting } from './nice-threads.ts';

/** Reads as many files at the same time. @returns the nice values of the threads above that of this process */
async function niceOf(t: TestContext, urgency: Urgency, files: number): Promise<number[]> {
  await using reader = new BackgroundReader();
  const dir = await tempDir(t);
  const pipes = Array.from({ length: files }, (_, index) => join(dir, `${index}`));
  execFileSync('mkfifo', pipes); // a read of one stands still
  const reading = pipes.map((pipe) => reader.read(pipe, undefined, urgency));
  const writers = await Promise.all(pipes.map((pipe) => openedForWriting(pipe, t.signal)));
  const values = await niceValues();
  await Promise.all(writers.map((writer) => writer.close()));
  await Promise.all(reading);
  return values.filter((nice) => nice !== values[0]).toSorted((a, b) => a - b);
}

test('a file that a peer waits for is read as fast as any program', { timeout: 180_000 }, async (t) => {
  assert.deepEqual(await niceOf(t, 'at once', 1), []);
  assert.deepEqual(await niceOf(t, 'now', 1), []);
  assert.deepEqual(await niceOf(t, 'later', 1), [5]);
});

test(
  'a file that nobody waits for is decompressed with the processor time that nobody else wants',
  { timeout: 180_000 },
  async (t) => {
    const dir = await tempDir(t);
    const script = '#!/bin/sh\nuntil [ "$(nice)" = 19 ]; do sleep 0.01; done\nprintf contents\n';
    await writeFile(join(dir, 'xz'), script, { mode: 0o755 });
    const file = join(dir, 'file.xz');
    await writeFile(file, Buffer.from('fd377a585a0000', 'hex'));
    const path = process.env['PATH'];
    process.env['PATH'] = `${dir}:${path}`;
    t.after(() => (process.env['PATH'] = path));
    await using reader = new BackgroundReader();
    const found = await reader.read(file, { compression: 'xz', narSize: 8 }, 'later');
    assert.ok(found !== undefined && 'narHash' in found);
    assert.equal(found.narHash, narHashOf(hash('sha256', 'contents', 'buffer')));
  },
);

test(
  'of several files that peers wait for, one is read as fast as any program',
  { timeout: 180_000, skip: availableParallelism() === 1 },
  async (t) => {
    assert.deepEqual(await niceOf(t, 'now', 2), [5]);
  },
);
