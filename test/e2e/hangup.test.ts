/** With a closed terminal, a lost connection or a gone reader, runs end in good order or continue. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { hangingProgram } from '../support/hanging-program.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab } from '../support/lab.ts';
import { Machine, updated } from '../support/update-lab.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const PATIENCE_MS = 180_000;
const CLEAR_LINE = '\r\u001B[K';

describe('lost terminals and readers', { concurrency: 3 }, () => {
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

  /** Runs the program in a terminal, as a person does. Returns its process id. */
  const onTerminal = async (
    machine: Machine,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ pid: number; shown: () => string; ended: Promise<unknown> }> => {
    const pidFile = lab.path('pid');
    const command = `echo $$ >${pidFile}; exec ${process.execPath} ${MAIN} ${args.join(' ')}`;
    const terminal = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
      env: { ...lab.env, NARSWARM_CONFIG: machine.config, SHELL: '/bin/sh', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
    });
    let shown = '';
    terminal.stdout.on('data', (data: Buffer) => (shown += data.toString()));
    const ended = endOf(terminal);
    while (!(await readFile(pidFile, 'utf8').catch(() => '')).endsWith('\n')) await sleep(20);
    // As a person sees it: a cleared line is gone.
    const seen = (): string =>
      shown
        .split('\n')
        .map((line) => line.split(CLEAR_LINE).at(-1))
        .join('\n');
    return { pid: Number(await readFile(pidFile, 'utf8')), shown: seen, ended };
  };
  const untilAsked = async (cache: HttpCache, isFar: (request: { bytes: number }) => boolean): Promise<void> => {
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!cache.requests.some(isFar)) {
      assert.ok(performance.now() < deadlineMs, 'the cache was not asked');
      await sleep(20);
    }
  };

  test('SIGHUP ends a daemon in a terminal', async () => {
    const { machine } = await scene();
    const key = ['--trusted-public-key', made.publicKey];
    const { pid, shown, ended } = await onTerminal(machine, [
      'daemon',
      '--substituter-port',
      '0',
      '--store',
      machine.store,
      ...ALONE,
      ...key,
    ]);
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!/^ready/m.test(shown()) && performance.now() < deadlineMs) await sleep(20);
    process.kill(pid, 'SIGHUP');
    assert.equal(await ended, 0, shown());
  });

  test('SIGHUP ends an update with 130, the state says so, and the next one continues', async () => {
    const { machine, cache, args } = await scene();
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    const { pid, shown, ended } = await onTerminal(machine, args);
    await untilAsked(cache, ({ bytes }) => bytes > 0);
    process.kill(pid, 'SIGHUP');
    assert.equal(await ended, 130);
    assert.match(shown(), /^desktop: interrupted[;:] /m); // with the paths that are missing, if it had begun with them
    assert.match(shown(), /^error: interrupted; run the same command again to continue\r$/m);
    assert.equal(await outcomeOf(machine), 'interrupted');
    cache.faults = [];
    assert.equal(updated(await machine.update())['outcome'], 'complete');
  });

  test('SIGHUP interrupts a fetch', async () => {
    const { machine, cache } = await scene();
    cache.faults = [{ kind: 'stall-headers' }];
    const args = ['fetch', made.root, '--store', machine.store, '--no-copy', '--scope', 'off', '--from', cache.url];
    const { pid, shown, ended } = await onTerminal(machine, [
      ...args,
      ...ALONE,
      '--trusted-public-key',
      made.publicKey,
    ]);
    await untilAsked(cache, () => true);
    process.kill(pid, 'SIGHUP');
    assert.equal(await ended, 130);
    assert.match(shown(), /^error: interrupted/m);
  });

  test('several SIGHUPs and a SIGTERM at once still end a run in good order', async () => {
    const { machine, args } = await scene();
    const disk = await hangingProgram(lab, 'sync');
    const { pid, shown, ended } = await onTerminal(machine, args, disk.env);
    while ((await disk.pid()) === undefined) await sleep(20);
    for (const signal of ['SIGHUP', 'SIGHUP', 'SIGTERM', 'SIGHUP'] as const) {
      process.kill(pid, signal);
      await sleep(50);
    }
    await disk.release();
    assert.equal(await ended, 130);
    assert.match(shown(), /^error: interrupted/m);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
    assert.equal(await outcomeOf(machine), 'complete', 'all of it was there');
  });

  test('SIGHUP ends a daemon in a terminal like SIGTERM, and has no effect on one without', async () => {
    const { machine } = await scene();
    const daemon = (store: string): string[] => [
      'daemon',
      '--store',
      store,
      '--trusted-public-key',
      made.publicKey,
      ...ALONE,
    ];
    const { pid, shown, ended } = await onTerminal(machine, daemon(await lab.folder('store')));
    while (!shown().includes('ready')) await sleep(20);
    process.kill(pid, 'SIGHUP');
    assert.equal(await ended, 0);

    const { process: running } = await lab.service(daemon(await lab.folder('store')));
    process.kill(running.pid, 'SIGHUP');
    await sleep(300);
    const { status, signal, stderr } = await running.stop('SIGTERM');
    assert.deepEqual([status, signal, stderr], [0, null, '']);
  });

  test('under nohup an update survives its closed terminal', async () => {
    const { machine, cache, args } = await scene();
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    const terminal = spawn(
      'script',
      ['--quiet', '--command', `nohup ${process.execPath} ${MAIN} ${args.join(' ')}`, '/dev/null'],
      {
        cwd: lab.dir, // nohup.out
        env: { ...lab.env, NARSWARM_CONFIG: machine.config, SHELL: '/bin/sh' },
        stdio: ['pipe', 'ignore', 'inherit'],
      },
    );
    await untilAsked(cache, ({ bytes }) => bytes > 0);
    terminal.kill('SIGKILL');
    await sleep(300);
    await cache.stop();
    assert.equal(await outcomeAtLast(machine), 'incomplete', 'it went on until the cache was gone');
  });

  /** Runs a command line in a terminal, and closes the terminal once it shows the progress of an update. */
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

  test('a closed terminal interrupts its update', async () => {
    const { machine, cache, args } = await scene();
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    await inTerminal(machine, `exec ${process.execPath} ${MAIN} ${args.join(' ')}`);
    assert.equal(await outcomeAtLast(machine), 'interrupted');
  });

  test('under setsid an update survives its closed terminal, though it can no longer print', async () => {
    const { machine, cache, args } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, second: { source: made.root } });
    cache.faults = [{ match: /^\/nar\//, kind: 'stall', afterBytes: 100 }];
    await inTerminal(machine, `setsid --fork ${process.execPath} ${MAIN} ${args.join(' ')}; sleep 20`);
    await cache.stop();
    assert.equal(await outcomeAtLast(machine), 'incomplete');
    assert.equal(await outcomeAtLast(machine, 'second'), 'incomplete');
  });

  test('if the reader of stdout is gone, a running command is interrupted', async () => {
    const { machine, cache, args } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, list: { source: `${cache.url}/list` } });
    cache.faults = [{ match: /^\/list$/, kind: 'stall-headers' }];
    assert.equal(await endOf(startUnread(machine, [...args, '--json'], 'stdout')), 130);
    assert.deepEqual([await outcomeOf(machine), await outcomeOf(machine, 'list')], ['complete', 'interrupted']);
    assert.equal(await endOf(startUnread(machine, ['man'], 'stdout')), 0);
    assert.equal(await endOf(startUnread(machine, ['--help'], 'stdout')), 0);
  });

  test('if a full disk takes no more output, the update continues and says so once', async () => {
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

  test('if the reader of stderr is gone, the update continues', async () => {
    const { machine, args } = await scene();
    assert.equal(await endOf(startUnread(machine, args, 'stderr')), 0);
    assert.equal(await outcomeOf(machine), 'complete');
  });
});
