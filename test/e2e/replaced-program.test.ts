/** A program that is updated while a daemon runs: code that the daemon has not loaded yet is gone. */
import assert from 'node:assert/strict';
import { cp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ALONE, Lab } from '../support/lab.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** More NARs than a fetch checks by itself, so that the daemon has to. */
const BLOBS = [9_000_000];

test('a daemon whose program was updated says that it has to be restarted, and goes on', async () => {
  await using lab = await Lab.open();
  const made = await lab.closure(BLOBS);
  const store = await lab.folder('store');
  const trust = ['--trusted-public-key', made.publicKey, '--store', store];
  const fetched = await lab.run([
    'fetch',
    made.root,
    '--no-copy',
    '--from',
    `file://${made.cacheDir}`,
    '--no-lan',
    ...trust,
  ]);
  assert.equal(fetched.status, 0, fetched.stderr);

  const installed = await lab.folder('installed');
  for (const name of ['dist', 'package.json', 'nix'])
    await cp(join(ROOT, name), join(installed, name), { recursive: true });
  await symlink(join(ROOT, 'node_modules'), join(installed, 'node_modules'));
  await rm(join(installed, 'dist', 'reading-worker.js'));
  const own = `shift 2; exec "${process.execPath}" "${installed}/dist/main.js" "$@"`;
  const { process: daemon } = await lab.service(['daemon', ...ALONE, ...trust, '--share-keys', 'lab-1'], {
    wrapper: ['sh', '-c', own, 'sh'],
  });
  const { message } = await daemon.event('warning');
  assert.match(String(message), /^narswarm was updated or removed while this process ran.*: restart it /);
  assert.equal((await daemon.stop()).status, 0);
});
