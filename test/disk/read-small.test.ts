import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { readSmall, SmallReader } from '../../src/disk/read-small.ts';

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-read-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

const reader = new SmallReader();
for (const [how, read] of [
  ['in another thread', readSmall],
  ['mostly at once', (path: string) => reader.read(path)],
] as const) {
  test(`${how}, reads a small text unchanged, reports a missing file as the system does, and does not wait for a pipe`, async (t) => {
    const dir = await folder(t);
    for (const text of ['', 'StorePath: ü\n', 'x'.repeat(300_000)]) {
      await writeFile(join(dir, 'text'), text);
      assert.equal(await read(join(dir, 'text')), text);
    }
    await assert.rejects(read(join(dir, 'none')), { code: 'ENOENT' });
    await assert.rejects(read(dir), { code: 'EISDIR' });
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    assert.equal(await read(join(dir, 'pipe')), '');
  });
}

/** Returns true if a read is done before the event loop turns. */
async function isAtOnce(reading: Promise<unknown>): Promise<boolean> {
  let isDone = false;
  void reading.then(() => (isDone = true));
  for (let microtask = 0; microtask < 20; microtask++) await Promise.resolve();
  const found = isDone;
  await reading;
  return found;
}

test('files that the system has in memory are read at once, the next ones after a slow one in other threads', async (t) => {
  const path = join(await folder(t), 'text');
  await writeFile(path, 'grün');
  let readMs = 0.01;
  let nowMs = 0;
  const slow = new SmallReader(() => (nowMs += readMs));
  assert.equal(await slow.read(path), 'grün');
  assert.equal(await isAtOnce(slow.read(path)), true);
  readMs = 5;
  assert.equal(await isAtOnce(slow.read(path)), true, 'the one that shows it');
  for (const aside of [8, 16, 32, 64, 128, 256, 256]) {
    for (let at = 0; at < aside; at++) assert.equal(await isAtOnce(slow.read(path)), false);
    assert.equal(await isAtOnce(slow.read(path)), true, 'tried again');
  }
  readMs = 0.01;
  for (let at = 0; at < 256; at++) assert.equal(await slow.read(path), 'grün');
  assert.equal(await isAtOnce(slow.read(path)), true);
  await assert.rejects(slow.read(`${path}-absent`), { code: 'ENOENT' });
});

test('parts of a file are read in the same way, and end with the file', async (t) => {
  const path = join(await folder(t), 'nar');
  await writeFile(path, 'x'.repeat(100_000) + 'y'.repeat(50));
  await using file = await open(path);
  let readMs = 0.01;
  let nowMs = 0;
  const parts = new SmallReader(() => (nowMs += readMs));
  const target = Buffer.alloc(100);
  const fill = (): Promise<number> => parts.fill(file.fd, target, 99_950);
  const check = async (isNow: boolean): Promise<void> => {
    target.fill(0);
    const reading = fill();
    assert.equal(await isAtOnce(reading), isNow);
    assert.equal(await reading, 100);
    assert.equal(target.toString(), 'x'.repeat(50) + 'y'.repeat(50));
  };
  await check(true);
  readMs = 5;
  await check(true);
  readMs = 0.01;
  for (let at = 0; at < 8; at++) await check(false);
  await check(true);
  for (const [offset, bytes] of [
    [100_000, 50],
    [100_050, 0],
    [200_000, 0],
  ] as const)
    assert.equal(await parts.fill(file.fd, target, offset), bytes);
});

test('while many files are read at once, others have their turn', async (t) => {
  const path = join(await folder(t), 'text');
  await writeFile(path, 'x');
  const fast = new SmallReader(() => 0);
  const read: string[] = [];
  const reading = Promise.all(Array.from({ length: 200 }, () => fast.read(path).then((text) => read.push(text))));
  let turns = 0;
  while (read.length < 200) {
    await new Promise(setImmediate);
    turns++;
  }
  await reading;
  assert.ok(turns > 5, String(turns));
});
