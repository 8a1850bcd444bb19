/** A terminal that is closed, a connection that is lost, a reader that is gone: runs end in good order, or go on. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { hangingProgram } from '../support/hanging-program.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab } from '../support/lab.ts';
import { Machine, until, updated } from '../support/update-lab.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const PATIENCE_MS = 20_000;

describe('nobody is there any more', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([40_000, 30_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = async (): Promise<{ machine: Machine; cache: HttpCache; args: string[] }> => {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, flags);
    return { machine, cache, args: ['update', '--store', machine.store, ...ALONE, ...flags] };
  };
  /** A process whose stdout or stderr nobody reads: it is gone before the first byte. */
  const startUnread = (machine: Machine, args: readonly string[], closed: 'stdout' | 'stderr'): ChildProcess => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...lab.env, NARSWARM_CONFIG: machine.config },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
    });
    child[closed].destroy();
    child[closed === 'stdout' ? 'stderr' : 'stdout'].resume();
    return child;
  };
  const endOf = async (child: ChildProcess): Promise<unknown> => (await once(child, 'close'))[0];
  const outcomeOf = async (machine: Machine, name = 'desktop'): Promise<string | undefined> =>
    (await machine.state(name).catch(() => undefined))?.lastRun?.outcome;

  test('SIGHUP in an update: 130, the state says so, and the next goes on', async () => {
    const { machine, cache } = await scene();
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    const update = machine.start();
    await until(() => cache.requests.some(({ bytes }) => bytes > 0), update);
    const run = await update.stop('SIGHUP');
    assertFailure(run, 130, 'INTERRUPTED', /^error: interrupted; run the same command again to go on from here$/m);
    assert.equal(updated(run)['outcome'], 'interrupted');
    assert.equal(await outcomeOf(machine), 'interrupted');
    cache.faults = [];
    assert.equal(updated(await machine.update())['outcome'], 'complete');
  });

  test('SIGHUP in a fetch', async () => {
    const { machine, cache } = await scene();
    cache.faults = [{ kind: 'stall-headers' }];
    const args = ['fetch', made.root, '--store', machine.store, '--no-copy', '--scope', 'off', '--from', cache.url];
    const fetch = lab.start([...args, ...ALONE, '--trusted-public-key', made.publicKey]);
    await until(() => cache.requests.length > 0, fetch);
    assertFailure(await fetch.stop('SIGHUP'), 130, 'INTERRUPTED', /^error: interrupted/);
  });

  test('SIGHUP from everybody at once, and SIGTERM: the run still ends in good order', async () => {
    const { machine } = await scene();
    const disk = await hangingProgram(lab, 'sync');
    const update = machine.start([], { env: disk.env });
    await until(async () => (await disk.pid()) !== undefined, update);
    for (const signal of ['SIGHUP', 'SIGHUP', 'SIGTERM', 'SIGHUP'] as const) {
      process.kill(update.pid, signal);
      await sleep(50);
    }
    await disk.release();
    assertFailure(await update.end(), 130, 'INTERRUPTED', /^error: interrupted/);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
    assert.equal(await outcomeOf(machine), 'complete', 'all of it was there');
  });

  test('SIGHUP ends a daemon as SIGTERM does', async () => {
    const daemon = ['daemon', '--store', await lab.folder('store'), '--trusted-public-key', made.publicKey, ...ALONE];
    const { process: running } = await lab.service(daemon);
    const { status, signal, stderr } = await running.stop('SIGHUP');
    assert.deepEqual([status, signal, stderr], [0, null, '']);
  });

  /** Runs a command line in a terminal, and closes that as soon as it shows the progress of an update. */
  const inTerminal = async (machine: Machine, command: string): Promise<void> => {
    const terminal = spawn('script', ['--quiet', '--command', command, '/dev/null'], {
      env: { ...lab.env, NARSWARM_CONFIG: machine.config, SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
    });
    let shown = '';
    terminal.stdout.on('data', (data: Buffer) => (shown += data.toString()));
    while (!/\d+%, /.test(shown)) {
      assert.deepEqual([terminal.exitCode, terminal.signalCode], [null, null], shown);
      await sleep(20);
    }
    terminal.kill('SIGKILL');
  };
  const outcomeAtLast = async (machine: Machine, name?: string): Promise<string | undefined> => {
    const deadlineMs = performance.now() + PATIENCE_MS;
    for (;;) {
      const outcome = await outcomeOf(machine, name);
      if (outcome !== undefined || performance.now() > deadlineMs) return outcome;
      await sleep(20);
    }
  };

  test('a terminal that is closed interrupts an update in it', async () => {
    const { machine, cache, args } = await scene();
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    await inTerminal(machine, `exec ${process.execPath} ${MAIN} ${args.join(' ')}`);
    assert.equal(await outcomeAtLast(machine), 'interrupted');
  });

  test('a terminal that is closed: under setsid an update goes on, though it can say nothing any more', async () => {
    const { machine, cache, args } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, second: { source: made.root } });
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    await inTerminal(machine, `setsid --fork ${process.execPath} ${MAIN} ${args.join(' ')}; sleep 20`);
    await cache.stop();
    assert.equal(await outcomeAtLast(machine), 'incomplete');
    assert.equal(await outcomeAtLast(machine, 'second'), 'incomplete');
  });

  test('a reader of stdout that is gone: what is at work is interrupted, what is done is done', async () => {
    const { machine, cache, args } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, list: { source: `${cache.url}/list` } });
    cache.faults = [{ match: /^\/list$/, kind: 'stall-headers' }];
    assert.equal(await endOf(startUnread(machine, [...args, '--json'], 'stdout')), 130);
    assert.deepEqual([await outcomeOf(machine), await outcomeOf(machine, 'list')], ['complete', 'interrupted']);
    assert.equal(await endOf(startUnread(machine, ['man'], 'stdout')), 0);
    assert.equal(await endOf(startUnread(machine, ['--help'], 'stdout')), 0);
  });

  test('a disk that is full of what is printed: the update goes on, and says so once', async () => {
    const { machine, args } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, second: { source: made.root } });
    await using full = await open('/dev/full', 'w');
    const child = spawn(process.execPath, [MAIN, ...args, '--json'], {
      env: { ...lab.env, NARSWARM_CONFIG: machine.config },
      stdio: ['ignore', full.fd, 'pipe'],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
    });
    const [said, status] = await Promise.all([text(child.stderr!), endOf(child)]);
    assert.deepEqual([status, said], [1, 'error: cannot write to stdout: ENOSPC: no space left on device, write\n']);
    assert.deepEqual([await outcomeOf(machine), await outcomeOf(machine, 'second')], ['complete', 'complete']);
  });

  test('a reader of stderr that is gone: the update goes on', async () => {
    const { machine, args } = await scene();
    assert.equal(await endOf(startUnread(machine, args, 'stderr')), 0);
    assert.equal(await outcomeOf(machine), 'complete');
  });
});
