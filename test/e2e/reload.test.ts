/** SIGHUP to a service without a terminal: its configuration is read again. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab, type CliEvent, type CliProcess } from '../support/lab.ts';
import { NotifyListener } from '../support/notify-listener.ts';
import { requireTool } from '../support/require-tool.ts';

describe('SIGHUP', { timeout: 180_000 }, () => {
  let lab: Lab;
  before(requireTool('systemd', 'systemd-notify', '--version'));
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  interface Running {
    readonly daemon: CliProcess;
    readonly listener: NotifyListener;
    /** Writes the config file, and returns what the daemon says of it. */
    readonly reload: (toml: string) => Promise<CliEvent>;
  }

  async function running(toml: string, ...flags: string[]): Promise<Running> {
    const NARSWARM_CONFIG = lab.path('config.toml');
    await writeFile(NARSWARM_CONFIG, toml);
    const listener = lab.use(await NotifyListener.at(join(await lab.folder(), 'n')));
    const env = { NARSWARM_CONFIG, NOTIFY_SOCKET: listener.socket };
    const args = [
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      lab.path('store'),
      ...ALONE,
      '--trusted-public-key',
      await fixtureKey(),
    ];
    const { process: daemon } = await lab.service([...args, ...flags], { env });
    await listener.until((assignment) => assignment === 'READY=1');
    const reload = async (text: string): Promise<CliEvent> => {
      await writeFile(NARSWARM_CONFIG, text);
      const known = daemon.events.length;
      process.kill(daemon.pid, 'SIGHUP');
      const news = await daemon.event('reloaded', (event) => daemon.events.indexOf(event) >= known);
      await listener.until((assignment) => assignment === 'RELOADING=1');
      await listener.until((assignment) => assignment === 'READY=1');
      return news;
    };
    return { daemon, listener, reload };
  }

  test('applies what needs no restart, and names the rest', async () => {
    const { daemon, reload } = await running('max-size = "1G"\nmax-upload-rate = "1MB/s"\n', '--scope', 'lan');
    const one = `[subscriptions.one]\nsource = "${FIXTURE_ROOT}"\n`;
    const first = await reload(
      `max-size = "2G"\nmax-upload-rate = "2MB/s"\nmax-download-rate = "1MB/s"\nscope = "cohort"\nsalt = "x"\n${one}`,
    );
    assert.deepEqual(
      { ...first, file: '' },
      {
        event: 'reloaded',
        file: '',
        applied: ['max-upload-rate', 'max-size'],
        waiting: ['max-download-rate', 'salt'],
        added: ['one'],
        changed: [],
        removed: [],
      },
      'a flag overrides the scope of the file',
    );
    const back = await reload(`max-size = "2G"\nmax-upload-rate = "2MB/s"\n${one}publish = true\n`);
    assert.deepEqual([back['applied'], back['waiting'], back['changed']], [[], [], ['one']]);
    const without = await reload('');
    assert.deepEqual([without['applied'], without['removed']], [['max-upload-rate', 'max-size'], ['one']]);
    assert.equal((await daemon.stop()).status, 0);
  });

  test('a malformed file changes nothing, and the daemon stays', async () => {
    const { daemon, listener, reload } = await running('max-size = "1G"\n');
    await writeFile(String((await reload('max-size = "1G"\n'))['file']), 'max-size = "many"\n');
    process.kill(daemon.pid, 'SIGHUP');
    const { message } = await daemon.event('warning', ({ kind }) => kind === 'earlier-config');
    assert.match(String(message), /config\.toml\S*:1: max-size: /);
    await listener.until((assignment) => assignment === 'READY=1');
    assert.deepEqual((await reload('max-size = "2G"\n'))['applied'], ['max-size']);
    assert.equal((await daemon.stop()).status, 0);
  });
});
