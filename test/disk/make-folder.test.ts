import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeFolder, makeFolderBelow } from '../../src/disk/make-folder.ts';

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'narswarm-folder-'));
});
after(() => rm(dir, { recursive: true }));

test('makes parents with the given mode, and leaves existing folders alone', async () => {
  const path = join(dir, 'a', 'b', 'c');
  await makeFolder(path, 0o700);
  for (const made of [path, join(dir, 'a')]) assert.equal((await stat(made)).mode & 0o777, 0o700);
  await makeFolder(path);
  assert.equal((await stat(path)).mode & 0o777, 0o700);
  await symlink(path, join(dir, 'link'));
  await makeFolder(join(dir, 'link'));
  await Promise.all(Array.from({ length: 8 }, () => makeFolder(join(dir, 'at', 'once'))));
});

test('returns the outermost folder that it made', async () => {
  assert.equal(await makeFolder(join(dir, 'x', 'y', 'z')), join(dir, 'x'));
  assert.equal(await makeFolder(join(dir, 'x', 'y', 'w')), join(dir, 'x', 'y', 'w'));
  assert.equal(await makeFolder(join(dir, 'x', 'y', 'w')), undefined);
});

test('names the file in the way', async () => {
  await writeFile(join(dir, 'file'), '');
  await assert.rejects(makeFolder(join(dir, 'file')), { code: 'EEXIST' });
  await assert.rejects(makeFolder(join(dir, 'file', 'below')), { code: 'ENOTDIR' });
});

test('fails if no folder can be created', async () => {
  await assert.rejects(makeFolder('/proc/nope/x'), { code: 'ENOENT' });
});

test('does not replace a missing folder', async () => {
  await makeFolderBelow(dir, join(dir, 'state', 'pins'));
  await makeFolderBelow(dir, join(dir, 'state', 'pins'));
  assert.ok((await stat(join(dir, 'state', 'pins'))).isDirectory());
  await assert.rejects(makeFolderBelow(join(dir, 'gone'), join(dir, 'gone', 'pins')), { code: 'ENOENT' });
  await assert.rejects(stat(join(dir, 'gone')), { code: 'ENOENT' });
});
