/** An update that is stopped by a signal or by the end of its time window: complete paths can be used. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { runUpdate, type RunUpdateOptions } from '../../src/subscription/update/run-update.ts';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { NarswarmError } from '../../src/errors.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { Turn } from '../../src/store/turn.ts';
import { readStatus } from '../../src/subscription/state/status.ts';
import { hangingProgram, isRunning } from '../support/hanging-program.ts';
import type { HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos, requisites, type Run } from '../support/lab.ts';
import { machineWithCache, Machine, until, updated, type Subscribed } from '../support/update-lab.ts';
import { failOnWarning } from '../support/no-warnings.ts';

const PATHS = 6;
const SAYS = /^error: interrupted; run the same command again to continue$/m;

describe('an update that is told to stop', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  /** The path that half of the closure refers to. */
  let middle: NarInfo;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([40_000, 30_000, 20_000]);
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    middle = infos.find(({ storePath }) => storePath.endsWith('-lab-blob-1'))!;
    assert.ok(middle !== undefined);
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = (more: Partial<Subscribed> = {}): ReturnType<typeof machineWithCache> =>
    machineWithCache(lab, made, more);
  const stallMiddle = (cache: HttpCache): void => {
    cache.faults = [{ match: new RegExp(`^/${middle.url}$`), kind: 'stall', afterBytes: 100 }];
  };
  const hasAllButOne = async (machine: Machine): Promise<boolean> =>
    (await readdir(`${machine.store}/nar`).catch(() => [])).length === PATHS - 1;
  /** Fails unless complete paths are visible, the state names the missing ones, and the next update fetches only those. */
  const assertGoesOn = async (machine: Machine, cache: HttpCache, message: RegExp): Promise<void> => {
    const { narInfos, nars } = await assertSound(machine.store, made.publicKey);
    assert.deepEqual(
      [narInfos.length, nars.length],
      [3, PATHS - 1],
      'the first package and its blob, and the last blob',
    );
    const { lastRun, missing, generations, completeAsOf } = await machine.state('desktop');
    assert.deepEqual([lastRun?.outcome, generations[0]?.complete, completeAsOf], ['interrupted', false, undefined]);
    assert.match(((await machine.statusOf('desktop'))['lastRun'] as { message: string }).message, message);
    const reason = 'its NAR was not complete before the interruption';
    const path = middle.storePath;
    assert.deepEqual(missing, [{ path, reason, code: 'INTERRUPTED', facts: { path } }]);
    assert.equal(lastRun?.nars, PATHS - 1);
    cache.faults = [];
    cache.resetCounts();
    const next = await machine.update();
    assert.equal(next.status, 0, next.stderr);
    const fetched = cache.requests.filter(({ url }) => url.startsWith('/nar/')).map(({ url }) => url);
    assert.deepEqual(fetched, [`/${middle.url}`]);
    assert.deepEqual([updated(next)['outcome'], updated(next)['generation']], ['complete', 1]);
    const { health, missing: none } = await machine.statusOf('desktop');
    assert.deepEqual([health, none], ['complete', []]);
  };

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${signal} while NARs come ends with 130, and complete NARs are committed`, async () => {
      const { machine, cache } = await scene();
      stallMiddle(cache);
      await machine.subscribe({ desktop: { source: made.root }, later: { source: middle.storePath } });
      const update = machine.start(['--max-size', '0']);
      await until(() => hasAllButOne(machine), update);
      const run = await update.stop(signal);
      assertFailure(run, 130, 'INTERRUPTED', SAYS);
      assert.equal(updated(run, 'desktop')['outcome'], 'interrupted');
      assert.ok(!run.events.some(({ event, name }) => event === 'collected' || name === 'later'), run.stdout);
      assert.equal((await machine.statusOf('later'))['health'], 'never');
      const { health, completeAsOf } = await machine.statusOf('desktop');
      assert.deepEqual([health, completeAsOf], ['incomplete', null]);
      await machine.subscribe({ desktop: { source: made.root } });
      await assertGoesOn(machine, cache, /not complete before the interruption/);
    });
  }

  test('stopped during the walk or while a list is awaited, the state says so and keeps the last generation', async () => {
    const { machine, cache } = await scene();
    assert.equal((await machine.update()).status, 0);
    const known = await machine.state('desktop');
    cache.faults = [{ kind: 'stall-headers' }];
    await machine.subscribe({
      desktop: { source: made.root },
      list: { source: `${cache.url}/store-paths` },
      other: { source: `/nix/store/${'a'.repeat(32)}-nowhere` },
    });
    for (const name of ['list', 'other']) {
      cache.resetCounts();
      const update = machine.start([name]);
      await until(() => cache.requests.length > 0, update);
      assertFailure(await update.stop('SIGTERM'), 130, 'INTERRUPTED', SAYS);
      const { lastRun, generations } = await machine.state(name);
      assert.deepEqual([lastRun?.outcome, generations], ['interrupted', []]);
    }
    assert.deepEqual(await machine.state('desktop'), known);
  });

  test('stopped while nix copy runs, Nix ends, too, and the next update imports without fetching', async () => {
    const to = `local?root=${await lab.folder('target')}`;
    const { machine, cache } = await scene({ import: true, to });
    const nix = await hangingProgram(lab, 'nix', 'copy');
    const update = machine.start(['--import-with', 'nix-copy'], { env: nix.env });
    await until(async () => (await nix.pid()) !== undefined, update);
    const run = await update.stop('SIGINT');
    assertFailure(run, 130, 'INTERRUPTED', SAYS);
    assert.equal(isRunning((await nix.pid()) ?? 0), false);
    const { lastRun, missing, generations, completeAsOf } = await machine.state('desktop');
    assert.deepEqual([lastRun?.outcome, missing, completeAsOf], ['interrupted', [], undefined]);
    assert.deepEqual([generations[0]?.roots, generations[0]?.complete], [[made.root], false], 'gc knows what to keep');
    cache.resetCounts();
    assert.equal((await machine.update()).status, 0);
    assert.deepEqual(cache.requests, []);
    assert.equal(requisites(to, made.root).length, PATHS);
  });

  test('stopped after the last NAR, it writes the narinfos, and is not complete before the import', async () => {
    const to = `local?root=${await lab.folder('target')}`;
    const { machine } = await scene({ import: true, to });
    const sync = await hangingProgram(lab, 'sync');
    const update = machine.start([], { env: sync.env });
    await until(async () => (await sync.pid()) !== undefined, update);
    process.kill(update.pid, 'SIGTERM');
    await signalled(update.pid);
    await sync.release();
    assertFailure(await update.end(), 130, 'INTERRUPTED', SAYS);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, PATHS);
    assert.equal((await machine.state('desktop')).lastRun?.outcome, 'interrupted');
    assert.equal((await machine.statusOf('desktop'))['health'], 'incomplete');
    assert.equal(updated(await machine.update())['outcome'], 'complete');
    assert.equal(requisites(to, made.root).length, PATHS);
  });

  test('told twice, it ends at once', async () => {
    const { machine } = await scene();
    const sync = await hangingProgram(lab, 'sync');
    const update = machine.start([], { env: sync.env });
    await until(async () => (await sync.pid()) !== undefined, update);
    process.kill(update.pid, 'SIGINT');
    await signalled(update.pid);
    const { status, signal } = await update.stop('SIGINT');
    assert.ok(signal === 'SIGINT' || status === 130, 'which a shell shows as 130, too');
    assert.equal((await machine.update()).status, 0);
  });

  /** Runs an update in this process, as the command does, with a time window that the test ends. */
  const inWindow = async (machine: Machine, cache: HttpCache, window: AbortSignal): Promise<unknown> => {
    const subscriptions = [
      { name: 'desktop', source: made.root, import: false, sources: false, ready: false, publish: false },
    ] satisfies RunUpdateOptions['subscriptions'];
    return runUpdate({
      storeDir: machine.store,
      keys: [parsePublicKey(made.publicKey)],
      network: undefined,
      subscriptions,
      configured: subscriptions,
      forgetOthers: true,
      publishers: [],
      upstreams: [parseUpstream(cache.url)],
      trustedPublicKeys: [],
      publisherTimeoutMs: 1_000,
      maxBytes: 0,
      keepGenerations: 1,
      keepImported: 'compressed',
      waits: true,
      dryRun: false,
      signal: window,
      onWarning: failOnWarning,
    });
  };

  test('stopped by the end of the time window, it keeps all partial work', async () => {
    const { machine, cache } = await scene();
    stallMiddle(cache);
    const window = new AbortController();
    const running = inWindow(machine, cache, window.signal);
    while (!(await hasAllButOne(machine))) await new Promise((resolve) => setImmediate(resolve));
    window.abort(new NarswarmError('INTERRUPTED', 'stopped at 06:00; the next update continues from here'));
    await assert.rejects(running, { code: 'INTERRUPTED', message: /stopped at 06:00/ });
    const subscription = {
      name: 'desktop',
      source: made.root,
      import: false,
      sources: false,
      ready: false,
      publish: false,
    };
    const status = await readStatus(subscription, machine.store, new Date());
    assert.deepEqual([status.health, status.state?.lastRun?.outcome], ['incomplete', 'interrupted']);
    await assertGoesOn(machine, cache, /not complete before the interruption/);
  });

  test('the end of the time window also ends the wait for another update', async () => {
    const { machine, cache } = await scene();
    const store = await FileStore.open(machine.store, { create: true });
    await using _turn = await Turn.wait(store, 'updating', { signal: AbortSignal.timeout(5_000) });
    const window = new AbortController();
    const running = inWindow(machine, cache, window.signal);
    window.abort(new NarswarmError('INTERRUPTED', 'stopped at 06:00; the next update continues from here'));
    await assert.rejects(running, { code: 'INTERRUPTED', message: /stopped at 06:00/ });
    assert.deepEqual(cache.requests, []);
  });

  test('--until takes a time of day and refuses anything else', async () => {
    const { machine } = await scene();
    const run: Run = await machine.update(['--until', '25:00']);
    assert.equal(run.status, 2, run.stderr);
    assert.match(run.stderr, /--until/);
    assert.equal((await machine.update(['--until', '23:59', ...ALONE])).status, 0);
  });
});

/** Waits until a process has taken the signals that it was sent: none is pending any more (proc(5)). */
async function signalled(pid: number): Promise<void> {
  const { readFile } = await import('node:fs/promises');
  for (;;) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    if (/^ShdPnd:\s*0+$/m.test(status) && /^SigPnd:\s*0+$/m.test(status)) return;
  }
}
