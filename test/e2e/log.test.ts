/** The log of a service: its levels, its forms, and its priorities in the journal of systemd. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ALONE, Lab } from '../support/lab.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

describe('the log of a daemon', { concurrency: 3, timeout: 180_000 }, () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Runs a daemon that warns at once, with one file as stdout and stderr, until it is ready. Returns the file's lines. */
  async function logged(isJournal: boolean, until: RegExp, ...flags: string[]): Promise<string[]> {
    const file = lab.path('log');
    await using log = await open(file, 'a');
    const { dev, ino } = await log.stat();
    const args = [
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      lab.path('store'),
      ...ALONE,
      '--share-keys',
      'gone-1',
      ...flags,
    ];
    const env = { ...lab.env, JOURNAL_STREAM: isJournal ? `${dev}:${ino}` : '1:2' };
    const daemon = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', log.fd, log.fd] });
    const ended = once(daemon, 'close');
    lab.use({ [Symbol.asyncDispose]: async () => void daemon.kill('SIGKILL') });
    while (!until.test(await readFile(file, 'utf8'))) {
      assert.equal(daemon.exitCode, null, await readFile(file, 'utf8'));
      await sleep(20);
    }
    daemon.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    return (await readFile(file, 'utf8')).trimEnd().split('\n');
  }

  test('has priorities in the journal, and none elsewhere', async () => {
    const lines = await logged(true, /^<6>ready$/m);
    assert.ok(
      lines.some((line) => line.startsWith('<4>warning: --share-keys gone-1 names no trusted key')),
      lines.join('\n'),
    );
    assert.ok(lines.every((line) => /^<[46]>./.test(line)));
    assert.ok((await logged(false, /^ready$/m)).every((line) => !line.startsWith('<')));
  });

  test('is JSON if asked for, with the facts of each line', async () => {
    const lines = (await logged(false, /"event":"ready"/, '--log-format', 'json')).map(
      (line) => JSON.parse(line) as Record<string, unknown>,
    );
    const ready = lines.find(({ event }) => event === 'ready');
    assert.deepEqual([ready?.['level'], ready?.['scope'], typeof ready?.['time']], [30, 'lan', 'number']);
    assert.match(String(ready?.['msg']), /^seeding 0 NARs on port \d+ \(scope lan\)\n[^]*ready$/);
    assert.ok(lines.some(({ level, msg }) => level === 40 && String(msg).includes('gone-1')));
    const [first] = await logged(true, /"event":"ready"/, '--log-format', 'json');
    assert.match(first ?? '', /^<[46]>\{/);
  });

  test('has nothing below its level', async () => {
    const run = await lab.runPlain([
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      lab.path('store'),
      ...ALONE,
      '--log-level',
      'loud',
    ]);
    assert.equal(run.status, 2);
    assert.match(run.stderr, /Allowed choices are error, warn, info, debug/);
    const lines = await logged(false, /gone-1/, '--log-level', 'warn');
    assert.ok(
      lines.every((line) => line.startsWith('warning: ')),
      lines.join('\n'),
    );
  });

  test('says why the daemon cannot start, in its form', async () => {
    const args = [
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      lab.path('store'),
      '--scope',
      'off',
      '--log-format',
      'json',
    ];
    const { status, stderr } = await lab.runPlain(args);
    const { level, code, exitStatus } = JSON.parse(stderr) as Record<string, unknown>;
    assert.deepEqual([status, level, code, exitStatus], [2, 50, 'USAGE', 2]);
  });
});
