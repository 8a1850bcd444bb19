/** A line that NetworkManager calls metered, on a real bus: what nobody waits for is left to another line. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarswarmError } from '../../src/errors.ts';
import { isMetered, watchMetered } from '../../src/subscription/update/metered.ts';
import { nextGeneration } from '../support/generations.ts';
import { Lab, readNarInfos } from '../support/lab.ts';
import { Machine as DaemonMachine } from '../support/machine.ts';
import { changingLine, networkManager } from '../support/network-manager.ts';
import { requireTool } from '../support/require-tool.ts';
import { machineWithCache, until, updated, type Machine } from '../support/update-lab.ts';

const IN_TERMINAL = fileURLToPath(new URL('../support/in_terminal.py', import.meta.url));
const SENTENCE = /the internet line is metered, so nothing was fetched; .* narswarm update --metered use fetches now/;
/** Paths of the closure. */
const PATHS = 4;
const [YES, NO, GUESS_YES, GUESS_NO] = [1, 2, 3, 4];

describe('a metered line', () => {
  let lab: Lab;
  let made: MadeClosure;

  before(requireTool('systemd', 'busctl', '--version'));
  before(requireTool('dbus-daemon', 'dbus-daemon', '--version'));
  before(requireTool('python3-dbus and python3-gi', '/usr/bin/python3', '-c', 'import dbus, gi'));
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([20_000, 10_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const reasonOf = async (machine: Machine): Promise<readonly unknown[]> => {
    const { health, lastRun } = await machine.statusOf('desktop');
    const { outcome, message } = lastRun as Readonly<Record<string, unknown>>;
    assert.match(String(message), SENTENCE);
    return [health, outcome];
  };

  for (const value of [YES, GUESS_YES])
    test(`an update asks no source if Metered is ${value}, and says so`, async () => {
      const { machine, cache } = await machineWithCache(lab, made);
      const env = await networkManager(lab, value);
      const run = await machine.update([], { env });
      assert.equal(run.status, 130, run.stderr);
      assert.match(run.stderr, SENTENCE);
      assert.doesNotMatch(run.stderr, /error/);
      assert.deepEqual([updated(run)['outcome'], updated(run)['code']], ['interrupted', 'INTERRUPTED']);
      assert.deepEqual(run.event('error')['facts'], { metered: true });
      assert.deepEqual(cache.requests, []);
      assert.deepEqual(await reasonOf(machine), ['incomplete', 'interrupted']);
      const inWords = await lab.runPlain(['status', '--store', machine.store], {
        env: { NARSWARM_CONFIG: machine.config },
      });
      assert.match(inWords.stdout, /the internet line is metered/);
    });

  for (const value of [0, NO, GUESS_NO, 'silent'] as const)
    test(`an update fetches if Metered is ${value}`, async () => {
      const { machine } = await machineWithCache(lab, made);
      const run = await machine.update([], { env: await networkManager(lab, value) });
      assert.equal(run.status, 0, run.stderr);
    });

  test('an update fetches without busctl, and without a bus', async () => {
    const { machine } = await machineWithCache(lab, made);
    const nowhere = { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${lab.path('no-bus')}` };
    assert.equal((await machine.update([], { env: nowhere })).status, 0);
    const { machine: other } = await machineWithCache(lab, made);
    const run = await other.update([], { env: { ...nowhere, PATH: await lab.folder('no-programs') } });
    assert.equal(run.status, 0, run.stderr);
  });

  test('the last generation and its time stay, and the next update on another line goes on', async () => {
    const own = await lab.closure([20_000, 10_000], 'own');
    const { machine } = await machineWithCache(lab, own);
    assert.equal((await machine.update()).status, 0);
    const known = await machine.state('desktop');
    const { root } = await nextGeneration(own, 1, 30_000);
    await machine.subscribe({ desktop: { source: root } });
    const env = await networkManager(lab, YES);
    assert.equal((await machine.update(['--max-size', '0'], { env })).status, 130);
    assert.deepEqual((await machine.state('desktop')).generations, known.generations);
    await machine.subscribe({ desktop: { source: own.root } });
    assert.equal((await machine.update(['--max-size', '0'], { env })).status, 130);
    assert.deepEqual((await machine.state('desktop')).generations, known.generations);
    assert.equal((await machine.update()).status, 0);
  });

  test('an update at a terminal uses the line, unless its own flag says otherwise', async () => {
    const { machine } = await machineWithCache(lab, made);
    const env = { ...(await networkManager(lab, YES)), NARSWARM_METERED: 'avoid' };
    const wrapper = ['/usr/bin/python3', IN_TERMINAL, '80', '24', '--'];
    const options = { env: { ...env, NARSWARM_CONFIG: machine.config }, wrapper };
    const refused = await lab.runPlain(machine.updateArgs(['--metered', 'avoid']), options);
    assert.equal(refused.status, 130, refused.stdout);
    const run = await lab.runPlain(machine.updateArgs([]), options);
    assert.equal(run.status, 0, run.stdout);
  });

  test('an update uses the line if its settings say so, and a dry run always does', async () => {
    const { machine } = await machineWithCache(lab, made);
    const env = await networkManager(lab, YES);
    assert.equal((await machine.update(['--dry-run'], { env })).status, 0);
    const run = await machine.update([], { env: { ...env, NARSWARM_METERED: 'use' } });
    assert.equal(run.status, 0, run.stderr);
  });

  test('an update whose line becomes metered stops, keeps what has come, and the next one fetches the rest', async () => {
    const { machine, cache } = await machineWithCache(lab, made);
    const last = [...(await readNarInfos(made.cacheDir)).values()].find(({ storePath }) => storePath === made.root);
    assert.ok(last !== undefined);
    cache.faults = [{ match: new RegExp(`^/${last.url}$`), kind: 'stall', afterBytes: 50 }];
    await machine.subscribe({ desktop: { source: made.root }, later: { source: last.storePath } });
    const { env, become } = await changingLine(lab, NO);
    const update = machine.start([], { env });
    const nars = (): Promise<string[]> => readdir(`${machine.store}/nar`).catch(() => []);
    await until(async () => (await nars()).length === PATHS - 1, update);
    await become(YES);
    const run = await update.end();
    assert.equal(run.status, 130, run.stderr);
    assert.match(run.stderr, /stopped, since the internet line has become metered; .* --metered use continues now/);
    assert.doesNotMatch(run.stderr, /error/);
    assert.deepEqual(run.event('error')['facts'], { metered: true });
    assert.equal(updated(run, 'desktop')['outcome'], 'interrupted');
    assert.equal((await machine.statusOf('later'))['health'], 'never');
    cache.faults = [];
    cache.resetCounts();
    assert.equal((await machine.update()).status, 0);
    const fetched = cache.requests.filter(({ url }) => url.startsWith('/nar/')).map(({ url }) => url);
    assert.deepEqual(fetched, [`/${last.url}`]);
  });

  test('a line is watched until it becomes metered, and no longer than the update runs', async () => {
    const { env, become } = await changingLine(lab, NO);
    const everyMs = 20;
    await withEnvironment(env, async () => {
      const watch = watchMetered({ everyMs });
      await become(GUESS_NO);
      assert.equal(watch.signal.aborted, false);
      const ended = once(watch.signal, 'abort');
      await become(GUESS_YES);
      await ended;
      assert.equal((watch.signal.reason as NarswarmError).facts['metered'], true);
      await watch[Symbol.asyncDispose]();
      const closed = watchMetered({ everyMs });
      await closed[Symbol.asyncDispose]();
      assert.equal(closed.signal.aborted, false);
    });
  });

  test('nobody is asked again on a machine without NetworkManager', async () => {
    const ask = (): Promise<boolean | undefined> => isMetered(new AbortController().signal, () => undefined);
    const { env, quit } = await changingLine(lab, NO);
    assert.equal(await withEnvironment(env, ask), false);
    await quit();
    assert.equal(await withEnvironment(env, ask), undefined, 'a bus without it');
    const noBus = { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${lab.path('no-bus')}` };
    assert.equal(await withEnvironment(noBus, ask), undefined, 'no bus');
    assert.equal(await withEnvironment({ PATH: await lab.folder('no-programs') }, ask), undefined, 'no busctl');
    assert.equal(await withEnvironment(await networkManager(lab, 'silent'), ask), false, 'it may answer later');
  });

  test('the mirrors of a daemon wait for another line', async () => {
    const loopback = ['--listen', '127.0.0.1', '--no-lan', '--no-dht'];
    const publisher = await lab.publisher(made, loopback);
    const flags = ['--no-upstream', '--substituter-port', '0', '--trusted-public-key', made.publicKey, ...loopback];
    for (const [value, outcome] of [
      [YES, 'interrupted'],
      [NO, 'complete'],
    ] as const) {
      const machine = await DaemonMachine.make(lab, { flags: [], env: await networkManager(lab, value) });
      await machine.subscribe('mirror', publisher.mirror);
      const { process: daemon } = await machine.service(['daemon', ...flags]);
      assert.equal((await daemon.event('subscription'))['outcome'], outcome);
    }
  });

  test('a mirror of a daemon stops when the line becomes metered, and the daemon goes on', async () => {
    const large = await lab.closure([5_000_000], 'large');
    const loopback = ['--listen', '127.0.0.1', '--no-lan', '--no-dht'];
    const publisher = await lab.publisher(large, [...loopback, '--max-upload-rate', '60kB/s']);
    const { env, become } = await changingLine(lab, NO);
    const machine = await DaemonMachine.make(lab, { flags: [], env });
    await machine.subscribe('mirror', publisher.mirror);
    const flags = ['--no-upstream', '--substituter-port', '0', '--trusted-public-key', large.publicKey, ...loopback];
    const { process: daemon } = await machine.service(['daemon', ...flags, '--peer', publisher.peer]);
    await daemon.event('followed');
    const partials = (): Promise<string[]> =>
      readdir(`${machine.store}/narswarm/partial`, { recursive: true }).catch(() => []);
    const hasBegun = async (): Promise<boolean> => (await partials()).some((name) => /[0-9a-z]{52}/.test(name));
    await until(hasBegun, daemon);
    await become(YES);
    assert.equal((await daemon.event('subscription'))['outcome'], 'interrupted');
    const warning = await daemon.event('warning');
    assert.match(String(warning['message']), /the internet line has become metered/);
    assert.equal((await daemon.stop()).status, 0);
    assert.ok(await hasBegun(), 'what has come is kept');
  });
});

/** Runs with these variables in this process's environment. */
async function withEnvironment<Result>(
  variables: Readonly<Record<string, string>>,
  run: () => Promise<Result>,
): Promise<Result> {
  const former = { ...process.env };
  Object.assign(process.env, variables);
  try {
    return await run();
  } finally {
    for (const name of Object.keys(variables)) {
      if (former[name] === undefined) delete process.env[name];
      else process.env[name] = former[name];
    }
  }
}
