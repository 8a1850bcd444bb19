/** One host of a push, with programs in the place of ssh. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { PushHost, type HostOptions } from '../../src/push/host.ts';
import { useNixFolder } from '../support/nix-folder.ts';

let dir = '';
const { fakeProgram } = useNixFolder((folder) => {
  dir = folder;
});

const OPTIONS: HostOptions = {
  name: 'root@far',
  sshOptions: [],
  program: { archive: async () => Buffer.alloc(0), id: 'id' },
  args: [],
  begin: { type: 'begin', group: '0'.repeat(40), key: '', trusts: false, port: 1 },
  listens: '127.0.0.1',
  onProgress: () => undefined,
  onWarning: () => undefined,
};

test('a host that writes a line without an end fails alone, on stdout and on stderr', async () => {
  for (const to of ['>&1', '>&2']) {
    fakeProgram('ssh', `yes | tr -d '\\n' ${to}; exec sleep 1000`);
    const host = new PushHost(OPTIONS);
    await assert.rejects(host.hello, { code: 'HOST_FAILED', message: /line without an end/ });
    await host.end();
  }
});

test('the end does not wait for a host that is not reached', async (t) => {
  fakeProgram('ssh', `touch ${dir}/started; exec sleep 1000`);
  const host = new PushHost(OPTIONS);
  while (!existsSync(`${dir}/started`)) await setImmediate();
  mock.timers.enable({ apis: ['setTimeout'] }); // no time passes
  t.after(() => mock.timers.reset());
  await host.end();
  await assert.rejects(host.ready, { code: 'HOST_FAILED' });
});
