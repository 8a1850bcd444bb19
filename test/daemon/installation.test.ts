import assert from 'node:assert/strict';
import { chmod, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { findNixGroup, findTools } from '../../src/daemon/installation.ts';
import { tempDir } from '../store/store-fixture.ts';

suite('facts of a machine for its units', () => {
  test('the group of the Nix daemon’s socket, if others may not use it', async (t) => {
    const dir = await tempDir(t);
    const socketDir = join(dir, 'daemon-socket');
    const groups = join(dir, 'group');
    await writeFile(groups, `root:x:0:\nnix-users:x:999:me\nsockets:x:${(await stat(dir)).gid || 0}:\n`);
    assert.equal(await findNixGroup(socketDir, groups), 'nix-users', 'as Debian has it, before the first start');
    await mkdir(socketDir);
    await chmod(socketDir, 0o755);
    assert.equal(await findNixGroup(socketDir, groups), undefined);
    await chmod(socketDir, 0o750);
    assert.match((await findNixGroup(socketDir, groups)) ?? '', /^(root|sockets)$/);
    await writeFile(groups, 'other:x:54321:\n');
    assert.equal(
      await findNixGroup(socketDir, groups),
      undefined,
      'systemd starts no service in a group without a name',
    );
    assert.equal(await findNixGroup(join(dir, 'none'), join(dir, 'none')), undefined);
  });

  test('the folders of the programs that narswarm calls', async (t) => {
    const dir = await tempDir(t);
    for (const name of ['nix', 'git']) {
      await writeFile(join(dir, name), '#!/bin/sh\n');
      await chmod(join(dir, name), 0o755);
    }
    await writeFile(join(dir, 'ssh'), 'not a program');
    assert.deepEqual(findTools(`relative:/nowhere:${dir}`), { folders: [dir], missing: ['ssh', 'systemd-notify'] });
  });
});
