/** The command that an update runs when a subscription has new paths and is complete. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { assertFailure, Lab } from '../support/lab.ts';
import { Machine, until } from '../support/update-lab.ts';

describe('on-complete', { concurrency: 2 }, () => {
  let lab: Lab;
  let first: MadeClosure;
  let second: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    first = await lab.closure([20_000], 'first');
    second = await lab.closure([10_000], 'second');
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine that follows a list, and a command that appends a line to a file. */
  async function scene(): Promise<{
    machine: Machine;
    list: string;
    caches: readonly HttpCache[];
    told: () => Promise<string[]>;
    command: string;
  }> {
    const starting = [first, second].map(async ({ cacheDir }) => lab.use(await startHttpCache(cacheDir)));
    const caches = await Promise.all(starting);
    const from = caches.flatMap(({ url }) => ['--from', url]);
    const keys = [first, second].flatMap(({ publicKey }) => ['--trusted-public-key', publicKey]);
    const list = join(await lab.folder(), 'paths.txt');
    await writeFile(list, `${first.root}\n`);
    const machine = await Machine.of(lab, { 'my-list': { source: list } }, ['--scope', 'off', ...from, ...keys]);
    const file = lab.path('told');
    await writeFile(file, '');
    const values = '$NARSWARM_SUBSCRIPTION|$NARSWARM_GENERATION|$NARSWARM_ROOTS|$NARSWARM_STORE|$(cat)';
    const told = async (): Promise<string[]> => (await readFile(file, 'utf8')).split('\n').slice(0, -1);
    return { machine, list, caches, told, command: `echo "${values}" >>${file}` };
  }
  const lineOf = (machine: Machine, generation: number, { root }: MadeClosure): string =>
    `my-list|${generation}|${root}|${machine.store}|${root}`;

  test('is told of each complete generation once, with its roots', async () => {
    const { machine, list, told, command } = await scene();
    await writeFile(
      machine.config,
      `on-complete = ${JSON.stringify(command)}\n${await readFile(machine.config, 'utf8')}`,
    );
    assert.equal((await machine.update(['--dry-run'])).status, 0);
    assert.deepEqual(await told(), []);
    for (let night = 0; night < 2; night++) {
      const { status, stderr } = await machine.update();
      assert.deepEqual([status, stderr], [0, '']);
      assert.deepEqual(await told(), [lineOf(machine, 1, first)]);
    }
    await writeFile(list, `${second.root}\n`);
    assert.equal((await machine.update()).status, 0);
    assert.deepEqual(await told(), [lineOf(machine, 1, first), lineOf(machine, 2, second)]);
  });

  test('is not told of an incomplete subscription', async () => {
    const { machine, caches, told, command } = await scene();
    for (const cache of caches) cache.faults = [{ match: /^\/nar\//, kind: 'status', status: 404 }];
    assert.equal((await machine.update(['--on-complete', command])).status, 5);
    assert.deepEqual(await told(), []);
    for (const cache of caches) cache.faults = [];
    assert.equal((await machine.update(['--on-complete', command])).status, 0);
    assert.deepEqual(await told(), [lineOf(machine, 1, first)]);
  });

  test('that fails causes a warning and exit status 10, and is run again by the next update', async () => {
    const { machine, told, command } = await scene();
    const failed = await machine.update(['--on-complete', 'echo to stdout; exit 3']);
    assert.equal(failed.status, 10);
    const warning = failed.events.find(({ kind }) => kind === 'on-complete');
    assert.deepEqual([warning?.['name'], warning?.['ended']], ['my-list', 3]);
    assert.match(failed.stderr, /^to stdout\nerror: the on-complete command failed$/m);
    assert.equal((await machine.state('my-list')).lastRun?.outcome, 'complete');
    assert.equal((await machine.update(['--on-complete', command])).status, 0);
    assert.deepEqual(await told(), [lineOf(machine, 1, first)]);
  });

  test('may run an update itself', async () => {
    const { machine, told, command } = await scene();
    const again = ['node', 'main', ...machine.updateArgs(['--on-complete', command])].slice(2);
    const main = new URL('../../dist/main.js', import.meta.url).pathname;
    const nested = [process.execPath, main, ...again].map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`);
    const both = `${nested.join(' ')} >&2 && ${command}`;
    const { status, stderr } = await machine.update(['--on-complete', both]);
    assert.equal(status, 0, stderr);
    assert.deepEqual(await told(), [lineOf(machine, 1, first)]);
  });

  test('that is interrupted is run again by the next update', async () => {
    const { machine, told, command } = await scene();
    const started = lab.path('started');
    const update = machine.start(['--on-complete', `: >${started}; exec sleep 100`]);
    await until(async () => (await readFile(started).catch(() => undefined)) !== undefined, update);
    assertFailure(await update.stop('SIGTERM'), 130, 'INTERRUPTED', /interrupted/);
    assert.equal((await machine.update(['--on-complete', command])).status, 0);
    assert.deepEqual(await told(), [lineOf(machine, 1, first)]);
  });

  test('is told again of a subscription that was removed and added', async () => {
    const { machine, list, told, command } = await scene();
    assert.equal((await machine.update(['--on-complete', command])).status, 0);
    await machine.subscribe({});
    assert.equal((await machine.update()).status, 0);
    await assert.rejects(readFile(join(machine.store, 'narswarm', 'announced', 'my-list')), { code: 'ENOENT' });
    await machine.subscribe({ 'my-list': { source: list } });
    assert.equal((await machine.update(['--on-complete', command])).status, 0);
    assert.equal((await told()).length, 2);
  });
});
