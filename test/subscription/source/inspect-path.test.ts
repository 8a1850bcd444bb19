import assert from 'node:assert/strict';
import { mkdir, realpath, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspectPath } from '../../../src/subscription/source/inspect-path.ts';
import { tempDir } from '../../store/store-fixture.ts';

test('a folder that a link above it leads into the store is a profile', async (t) => {
  const folder = await realpath(await tempDir(t));
  const storeDir = join(folder, 'store');
  const path = join(storeDir, '00000000000000000000000000000000-system');
  await mkdir(join(path, 'sw', 'bin'), { recursive: true });
  await symlink(path, join(folder, 'current-system'));
  for (const below of ['current-system', 'current-system/sw/bin', 'current-system/sw/']) {
    assert.deepEqual(await inspectPath(join(folder, below), storeDir), { kind: 'profile', path });
  }
});

test('a file behind links outside the store is a list', async (t) => {
  const folder = await tempDir(t);
  const line = '/nix/store/00000000000000000000000000000000-x';
  await mkdir(join(folder, 'lists'));
  await writeFile(join(folder, 'lists', 'paths'), line);
  await symlink('lists', join(folder, 'link'));
  const found = await inspectPath(join(folder, 'link', 'paths'), '/nix/store');
  assert.deepEqual(found, { kind: 'list', paths: [line] });
});
