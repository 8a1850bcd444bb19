import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { XzDecoder } from '../../../src/store/decoding/xz-decoder.ts';

let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'narswarm-xz '));
});
after(() => rm(dir, { recursive: true }));

const file = (name: string): string => join(dir, name);
async function xzOf(name: string, bytes: Buffer): Promise<string> {
  await writeFile(file(name), spawnSync('xz', ['-c'], { input: bytes }).stdout);
  return file(name);
}

test('decodes one file after another, whatever their names', async () => {
  await using decoder = new XzDecoder();
  for (const [name, size] of [
    ["a 'quoted' $name.xz", 100_000],
    ['-c', 0],
    ['a\\nb', 512],
  ] as const) {
    const bytes = Buffer.alloc(size, name);
    assert.equal(await decoder.decode(await xzOf(name, bytes), file('out'), size), true, name);
    assert.deepEqual(await readFile(file('out')), bytes);
  }
  assert.equal(await decoder.decode(file('with\nnewline'), file('out'), 1), false);
});

test('stops at the limit, and goes on with the next file', async () => {
  await using decoder = new XzDecoder();
  const bomb = await xzOf('bomb', Buffer.alloc(10_000_000));
  assert.equal(await decoder.decode(bomb, file('much'), 1_000), false);
  assert.ok((await stat(file('much'))).size <= 1_024);
  assert.equal(await decoder.decode(await xzOf('small', Buffer.from('small')), file('out'), 5), true);
});

test('refuses damaged files, and what is not there', async () => {
  await using decoder = new XzDecoder();
  await writeFile(file('text'), 'no xz');
  const cut = (await readFile(await xzOf('whole', Buffer.from('text')))).subarray(0, -1);
  await writeFile(file('cut'), cut);
  for (const name of ['text', 'cut', 'nowhere'])
    assert.equal(await decoder.decode(file(name), file('out'), 1_000), false, name);
});

test('ends in the middle of a file', async () => {
  const zeros = await xzOf('zeros', Buffer.alloc(100_000_000));
  const decoder = new XzDecoder();
  const decoding = decoder.decode(zeros, file('out'), 100_000_000);
  await decoder[Symbol.asyncDispose]();
  assert.equal(await decoding, false);
  const stop = new AbortController();
  await using other = new XzDecoder(stop.signal);
  const aborted = other.decode(zeros, file('out'), 100_000_000);
  stop.abort();
  assert.equal(await aborted, false);
  assert.equal(await other.decode(zeros, file('out'), 100_000_000), false, 'it has ended');
});

test('decodes nothing without xz', async () => {
  const some = await xzOf('some', Buffer.from('some'));
  const path = process.env['PATH'];
  process.env['PATH'] = '/nowhere';
  await using none = new XzDecoder();
  process.env['PATH'] = path;
  assert.equal(await none.decode(some, file('out'), 4), false);
});
