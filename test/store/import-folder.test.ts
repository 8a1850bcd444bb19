import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { endedName } from '../../src/disk/owner.ts';
import { ImportFolder } from '../../src/store/import-folder.ts';
import { filledStore } from './store-fixture.ts';

test(
  'a Nix that waits at a FIFO of a killed process gets its end, and nothing is left',
  { timeout: 60_000 },
  async (t) => {
    const store = await filledStore(t);
    let parent: string;
    let left: string;
    {
      await using folder = await ImportFolder.open(store);
      parent = dirname(folder.dir);
      left = join(parent, endedName(basename(folder.dir)));
    }
    await mkdir(left);
    execFileSync('mkfifo', [join(left, 'arriving-0')]);
    const reader = spawn('cat', ['arriving-0'], { cwd: left, stdio: 'ignore' });
    t.after(() => reader.kill());
    const ended = once(reader, 'exit');
    while (!/ \(cat\) S /.test(readFileSync(`/proc/${reader.pid}/stat`, 'utf8'))) await setImmediate(); // it waits
    {
      await using folder = await ImportFolder.open(store);
      assert.deepEqual(await readdir(parent), [basename(folder.dir)]);
    }
    await ended;
  },
);
