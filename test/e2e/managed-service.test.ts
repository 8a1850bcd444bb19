/** Services as systemd starts them: it is told how they do. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { ALONE, fixtureKey, Lab } from '../support/lab.ts';
import { NotifyListener } from '../support/notify-listener.ts';
import { requireTool } from '../support/require-tool.ts';

const says =
  (start: string) =>
  (assignment: string): boolean =>
    assignment.startsWith(start);

describe('services under a manager', { timeout: 180_000 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(requireTool('systemd', 'systemd-notify', '--version'));
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([10_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const listen = async (): Promise<NotifyListener> => lab.use(await NotifyListener.at(join(await lab.folder(), 'n')));

  test('the daemon is ready, alive and stopped in the eyes of systemd', async () => {
    const listener = await listen();
    const env = { NOTIFY_SOCKET: listener.socket, WATCHDOG_USEC: '500000' };
    const key = ['--trusted-public-key', await fixtureKey()];
    const { process: daemon, ready } = await lab.service(
      ['daemon', '--substituter-port', '0', '--store', lab.path('store'), ...ALONE, ...key],
      {
        env,
      },
    );
    const [, status] = await listener.until(says('READY=1'));
    assert.equal(status, `STATUS=offers 0 NARs on port ${String(ready['port'])} to 0 members`);
    await listener.until(says('WATCHDOG=1'));
    const ended = daemon.stop('SIGTERM');
    await listener.until(says('STOPPING=1'));
    const { status: exit, stderr } = await ended;
    assert.deepEqual([exit, stderr], [0, '']);
  });

  test('so is a publisher', async () => {
    const listener = await listen();
    const publish = ['publish', '--store', made.cacheDir, '--key', lab.path('key'), ...ALONE];
    const trust = ['--trusted-public-key', made.publicKey];
    const { process: publisher } = await lab.service([...publish, ...trust], {
      env: { NOTIFY_SOCKET: listener.socket },
    });
    const [, status = ''] = await listener.until(says('READY=1'));
    assert.match(status, /^STATUS=publishing \d+ NARs$/);
    void publisher.stop('SIGTERM');
    await listener.until(says('STOPPING=1'));
  });

  test('the daemon’s unit lets systemd-notify speak for it, and feeds its watchdog in time', async () => {
    const units = JSON.parse(await readFile(new URL('../../nix/units.json', import.meta.url), 'utf8')) as {
      daemon: Record<string, unknown>;
    };
    const { Type, NotifyAccess, TimeoutStartSec } = units.daemon;
    assert.deepEqual([Type, NotifyAccess, TimeoutStartSec], ['notify', 'all', 'infinity']);
    assert.ok(Number(units.daemon['WatchdogSec']) > 60, 'a machine that is busy for a moment is not hung');
  });
});
