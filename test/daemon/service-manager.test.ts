import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { ServiceManager } from '../../src/daemon/service-manager.ts';
import type { Warning } from '../../src/warning.ts';
import { tempDir } from '../store/store-fixture.ts';
import { NotifyListener } from '../support/notify-listener.ts';
import { requireTool } from '../support/require-tool.ts';

const is =
  (...assignments: string[]) =>
  (assignment: string): boolean =>
    assignments.includes(assignment);
const none = (): void => assert.fail('no warning is expected');

suite('the service manager', { timeout: 180_000 }, () => {
  before(requireTool('systemd', 'systemd-notify', '--version'));

  test('is told that the process is ready, that its event loop runs, its status, and that it ends', async (t) => {
    await using listener = await NotifyListener.at(join(await tempDir(t), 'notify'));
    const env: NodeJS.ProcessEnv = {
      NOTIFY_SOCKET: listener.socket,
      WATCHDOG_USEC: '200000',
      WATCHDOG_PID: String(process.pid),
    };
    await using manager = new ServiceManager(env, none);
    assert.deepEqual(env, {}, 'programs that this process starts must not speak for it');
    let status = 'one';
    manager.ready(() => status);
    assert.deepEqual(await listener.until(is('READY=1')), ['READY=1', 'STATUS=one']);
    assert.deepEqual(await listener.until(is('WATCHDOG=1')), ['WATCHDOG=1']);
    status = 'two';
    assert.deepEqual(await listener.until(is('STATUS=two')), ['WATCHDOG=1', 'STATUS=two']);
    manager.stopping();
    assert.deepEqual(await listener.until(is('STOPPING=1')), ['STOPPING=1', 'STATUS=stopping']);
  });

  test('is told of a reload when it begins and when it is over, also at an abstract socket', async () => {
    await using listener = await NotifyListener.at(`@narswarm-${randomUUID()}`);
    await using manager = new ServiceManager({ NOTIFY_SOCKET: listener.socket }, none);
    const beforeUsec = process.hrtime.bigint() / 1_000n;
    await manager.reload(async () => undefined);
    const [, time = ''] = await listener.until(is('RELOADING=1'));
    const atUsec = BigInt(time.replace('MONOTONIC_USEC=', ''));
    assert.ok(beforeUsec <= atUsec && atUsec <= process.hrtime.bigint() / 1_000n, time);
    await listener.until(is('READY=1'));
  });

  test('is told that a failed reload is over', async (t) => {
    await using listener = await NotifyListener.at(join(await tempDir(t), 'notify'));
    await using manager = new ServiceManager({ NOTIFY_SOCKET: listener.socket }, none);
    await assert.rejects(manager.reload(() => Promise.reject(new Error('malformed'))));
    await listener.until(is('READY=1'));
  });

  test('another process’s watchdog is not fed', async (t) => {
    await using listener = await NotifyListener.at(join(await tempDir(t), 'notify'));
    const env = { NOTIFY_SOCKET: listener.socket, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' };
    await using manager = new ServiceManager(env, none);
    manager.ready(() => 'here');
    await listener.until(is('READY=1'));
    manager.stopping();
    await listener.until(is('STOPPING=1'));
    assert.ok(!listener.messages.flat().includes('WATCHDOG=1'));
  });

  test('that cannot be told causes one warning', async (t) => {
    const warnings: Warning[] = [];
    const heard = Promise.withResolvers<void>();
    await using manager = new ServiceManager({ NOTIFY_SOCKET: join(await tempDir(t), 'gone') }, (warning) => {
      warnings.push(warning);
      heard.resolve();
    });
    manager.ready(() => '');
    await manager.reload(async () => undefined);
    await heard.promise;
    assert.deepEqual(
      warnings.map(({ kind }) => kind),
      ['unheard'],
    );
  });
});
