import assert from 'node:assert/strict';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab } from '../support/lab.ts';
import { until } from '../support/update-lab.ts';
import { statSync } from 'node:fs';

describe('signals', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  test('SIGUSR1 opens no debugger', async () => {
    const key = ['--trusted-public-key', await fixtureKey()];
    const { process: daemon } = await lab.service(['daemon', '--store', lab.path('store'), ...ALONE, ...key]);
    process.kill(daemon.pid, 'SIGUSR1');
    const { status, stderr } = await daemon.stop('SIGTERM');
    assert.equal(status, 0, stderr);
    assert.doesNotMatch(stderr, /Debugger/i);
  });

  test('a service that is killed has kept its compiled code for the next start', async () => {
    const key = ['--trusted-public-key', await fixtureKey()];
    const env = { NODE_COMPILE_CACHE: await lab.folder('compiled') };
    const args = ['daemon', '--store', lab.path('another-store'), ...ALONE, ...key];
    const { process: daemon } = await lab.service(args, { env });
    const files = (): Promise<string[]> => readdir(env.NODE_COMPILE_CACHE, { recursive: true });
    await until(async () => (await files()).length > 5, daemon);
    await daemon.stop('SIGKILL');
  });

  test('a second SIGTERM or SIGINT ends a process that is still busy with the first', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const bin = await lab.folder('bin');
      const told = join(bin, 'told');
      await writeFile(
        join(bin, 'nix'),
        `#!/bin/sh\ntrap ': >${told}' TERM INT\n: >${told}.started\nwhile [ -e ${told}.started ]; do sleep 0.05; done\n`,
      );
      await chmod(join(bin, 'nix'), 0o755);
      const env = { PATH: `${bin}:${lab.env['PATH'] ?? ''}` };
      const running = lab.start(['fetch', FIXTURE_ROOT, '--store', lab.path('store')], { env });
      await until(() => isThere(`${told}.started`), running);
      process.kill(running.pid, signal);
      await until(() => isThere(told), running);
      const run = await running.stop(signal);
      assert.ok(run.signal === signal || run.status === 130, run.stderr);
      assert.equal(run.stderr, '', 'it does not wait for what the first one began');
    }
  });
});

function isThere(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false }) !== undefined;
}
