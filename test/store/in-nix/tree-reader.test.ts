/** Ranges of NARs that are read from the Nix store, compared with the NARs that the real Nix dumps. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, lutimes, mkdir, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { assert as forAll, asyncProperty, nat, tuple } from 'fast-check';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { physicalPath } from '../../../src/nix/store-place.ts';
import { mapTree } from '../../../src/store/in-nix/map-tree.ts';
import { TreeReader } from '../../../src/store/in-nix/tree-reader.ts';
import { useNixFolder } from '../../support/nix-folder.ts';

let folder: string;
useNixFolder((made) => void (folder = made));

/** Adds a tree to the store of the test, with the real Nix. @returns where it is on the disk, and its NAR */
function added(tree: string): { readonly root: string; readonly nar: Buffer } {
  const path = parseStorePath(nixStore('--add', tree).toString().trim());
  const root = physicalPath(path, process.env.NIX_REMOTE ?? '');
  assert.ok(root !== undefined);
  return { root, nar: nixStore('--dump', root) };
}

function nixStore(...args: readonly string[]): Buffer {
  const { status, stdout, stderr } = spawnSync('nix-store', args, { maxBuffer: 1 << 28 });
  assert.equal(status, 0, stderr.toString());
  return stdout;
}

async function readerOf(root: string): Promise<TreeReader> {
  const map = await mapTree(root);
  assert.ok(map !== undefined);
  return new TreeReader(root, map);
}

async function bytesOf(reader: TreeReader, from = 0, length = reader.map.narSize): Promise<Buffer> {
  const target = Buffer.alloc(length, 0xff);
  await reader.read(target, from);
  return target;
}

/** Makes a tree with everything that a NAR can hold. */
async function oddTree(): Promise<string> {
  const tree = join(folder, 'odd');
  await mkdir(join(tree, 'empty-folder'), { recursive: true });
  await mkdir(join(tree, 'a/b/c/d'), { recursive: true });
  await writeFile(join(tree, 'a/b/c/d/deep'), 'x'.repeat(8));
  await writeFile(join(tree, 'empty'), '');
  await writeFile(join(tree, 'program'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(tree, 'for-others'), 'only others execute it', { mode: 0o645 });
  await writeFile(join(tree, 'large'), Buffer.alloc(3_000_001, 'large'));
  await writeFile(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe, 0x80])]), 'no UTF-8');
  for (const name of ['a.b', 'a-b', 'a b', 'A', 'ä', 'z', '\u{1f600}', 'new\nline', '"', '~nix~case~hack~1'])
    await writeFile(join(tree, name), name);
  await symlink('../nowhere/at all', join(tree, 'dangling'));
  await symlink('a', join(tree, 'to-folder'));
  return tree;
}

test('has the same bytes as the NAR of Nix, whole and in any range', async () => {
  const { root, nar } = added(await oddTree());
  const reader = await readerOf(root);
  assert.equal(reader.map.narSize, nar.length);
  assert.ok((await bytesOf(reader)).equals(nar));
  const range = tuple(nat(nar.length), nat(20_000));
  await forAll(
    asyncProperty(range, async ([from, wanted]) => {
      const length = Math.min(wanted, nar.length - from);
      assert.ok((await bytesOf(reader, from, length)).equals(nar.subarray(from, from + length)));
    }),
  );
  for (let from = 0; from < 3_000; from++)
    // over many borders
    assert.ok((await bytesOf(reader, from, 9)).equals(nar.subarray(from, from + 9)));
  await assert.rejects(bytesOf(reader, nar.length - 8, 9), RangeError);
});

test('reads a path that is a single file, an executable, a link or an empty folder', async () => {
  await writeFile(join(folder, 'file'), 'contents');
  await writeFile(join(folder, 'nothing'), '');
  await writeFile(join(folder, 'program'), 'run', { mode: 0o755 });
  await symlink('anywhere', join(folder, 'link'));
  await mkdir(join(folder, 'nobody'));
  for (const name of ['file', 'nothing', 'program', 'link', 'nobody']) {
    const { root, nar } = added(join(folder, name));
    assert.ok((await bytesOf(await readerOf(root))).equals(nar), name);
  }
});

test('reads thousands of files with bounded memory', async () => {
  const tree = join(folder, 'many');
  await mkdir(tree);
  for (let count = 0; count < 2_000; count++) await writeFile(join(tree, `file-${count}`), `${count}`.repeat(40));
  const { root, nar } = added(tree);
  const reader = await readerOf(root);
  assert.ok((await bytesOf(reader)).equals(nar));
  assert.equal(reader.map.fileCount, 2_000);
  assert.ok(reader.map.memoryBytes < 300 * 2_000, `${reader.map.memoryBytes}`);
  assert.equal(await mapTree(root, reader.map.memoryBytes - 1), undefined);
  assert.ok((await mapTree(root, reader.map.memoryBytes + 1_000)) !== undefined);
});

test('maps no path that has gone, or was changed since Nix put it there, or is no tree of Nix', async () => {
  const { root } = added(await oddTree());
  const program = join(root, 'program');
  await utimes(program, 2, 2);
  assert.equal(await mapTree(root), undefined);
  await utimes(program, 1, 1);
  assert.ok((await mapTree(root)) !== undefined);
  await chmod(root, 0o755);
  spawnSync('mkfifo', [join(root, 'pipe')]);
  assert.equal(await mapTree(root), undefined);
  await rm(join(root, 'pipe'));
  await rename(root, `${root}.gone`);
  assert.equal(await mapTree(root), undefined);
});

test('fails rather than reading a file that was changed, replaced or removed after the map was made', async () => {
  const { root, nar } = added(await oddTree());
  const large = join(root, 'large');
  const reader = await readerOf(root);
  const at = nar.indexOf('largelarge');
  const read = (): Promise<Buffer> => bytesOf(reader, at, 10);
  assert.equal((await read()).toString(), 'largelarge');
  await chmod(root, 0o755);
  await chmod(large, 0o644);
  await writeFile(large, Buffer.alloc(3_000_001, 'other')); // the same size
  await assert.rejects(read, RangeError);
  await utimes(large, 1, 1);
  await truncate(large, 3_000_000);
  await utimes(large, 1, 1);
  await assert.rejects(read, RangeError);
  await rename(large, `${large}.other`);
  await symlink(`${large}.other`, large);
  await lutimes(large, 1, 1);
  await assert.rejects(read, { code: 'ELOOP' });
  await rm(large);
  await assert.rejects(read, { code: 'ENOENT' });
});
