import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MountFolder } from '../../src/mount/mount-folder.ts';
import { TreeBuilder, type Tree } from '../../src/mount/tree.ts';
import { FileStore } from '../../src/store/file-store.ts';

const skip = process.getuid?.() === 0 ? false : 'only root can mount';

/** A tree of so many files. */
function treeOf(files: number): Tree {
  const builder = new TreeBuilder();
  builder.beginFolder('');
  for (let index = 0; index < files; index++) builder.regular(String(index).padStart(8, '0'), false, index);
  builder.endFolder();
  return builder.build();
}

test('a tree that finds no room on the disk leaves the one before it, and no part of itself', { skip }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-mount-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]);
  t.after(async () => {
    execFileSync('umount', ['--lazy', dir]);
    await rm(dir, { recursive: true });
  });
  await using folder = await MountFolder.open(await FileStore.open(join(dir, 'store'), { create: true }));
  await folder.writeTree('tree', treeOf(10));
  const filler = join(dir, 'filler');
  await writeFile(filler, Buffer.alloc(2 ** 21)).catch(() => undefined);
  await assert.rejects(folder.writeTree('tree', treeOf(1_000)), { code: 'STORE_FULL' });
  assert.deepEqual(await folder.readTree('tree'), treeOf(10));
  assert.deepEqual(await readdir(folder.path('.')), ['tree']);
  await rm(filler);
  await folder.writeTree('tree', treeOf(1_000));
  assert.deepEqual(await folder.readTree('tree'), treeOf(1_000));
});
