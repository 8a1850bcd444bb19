/** Status and update of new and damaged subscriptions, and on stores that cannot be written. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { readStatus } from '../../src/subscription/state/status.ts';
import { assertFailure, assertSound, Lab, readNarInfos, type CliEvent, type Run } from '../support/lab.ts';
import { inNamespace } from '../support/namespace.ts';
import { machineWithCache, Machine, updated } from '../support/update-lab.ts';

/** Mounts a file system for the command only, runs `$2` in it first, and keeps its contents. */
const SCRIPT = `mount -t tmpfs -o "$1" tmpfs "$0" || exit 99
cp -r "$0.before/." "$0" && eval "$2" || exit 99
dir=$0; shift 2; "$@"; status=$?; cp -r "$dir/." "$dir.after"; exit $status`;

describe('status and update', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let infos: readonly NarInfo[];
  const named = (name: string): NarInfo => infos.find(({ storePath }) => storePath.endsWith(`-${name}`))!;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([300_000, 10_000]);
    infos = [...(await readNarInfos(made.cacheDir)).values()];
  });
  after(() => lab[Symbol.asyncDispose]());

  const scene = (store?: string): ReturnType<typeof machineWithCache> =>
    machineWithCache(lab, made, store === undefined ? {} : { store });
  const health = (events: readonly CliEvent[]): unknown[] => events.flatMap((event) => event['health'] ?? []);

  test('a subscription that was never updated, in a missing store, is reported and nothing is created', async () => {
    const { machine } = await scene(lab.path('nothing'));
    const run = await machine.status();
    assert.deepEqual([run.status, health(run.events)], [0, ['never']]);
    const { generation, lastRun, completeAsOf, missing } = await machine.statusOf('desktop');
    assert.deepEqual(
      { generation, lastRun, completeAsOf, missing },
      { generation: null, lastRun: null, completeAsOf: null, missing: [] },
    );
    const text = await lab.runPlain(['status', '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
    assert.deepEqual([text.stdout, text.stderr], ['desktop: never updated\ndaemon: none serves this store\n', '']);
    assert.ok(
      !(await readdir(dirname(machine.store))).includes(machine.store.slice(dirname(machine.store).length + 1)),
    );
    assert.equal((await machine.update()).status, 0, 'an update makes it');
  });

  test('an unknown name fails with USAGE, lists the known names, and updates nothing', async () => {
    const { machine, cache } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, lab: { source: made.root } });
    const says = /there is no subscription dekstop in .*: did you mean desktop\? \(it has desktop, lab\)/;
    assertFailure(await machine.update(['desktop', 'dekstop']), 2, 'USAGE', says);
    assertFailure(await machine.status(['dekstop']), 2, 'USAGE', says);
    assert.deepEqual(cache.requests, []);
    await machine.subscribe({});
    assertFailure(await machine.status(['desktop']), 2, 'USAGE', /there is no subscription desktop/);
    const none = await lab.runPlain(['status', '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
    assert.deepEqual([none.status, none.stdout], [0, 'daemon: none serves this store\n']);
    assert.match(none.stderr, /no subscriptions in .*: add one with narswarm subscribe/);
  });

  test('a damaged state counts as no state, and the next run replaces it', async () => {
    const { machine, cache } = await scene();
    assert.equal((await machine.update()).status, 0);
    const good = await readFile(machine.stateFile('desktop'), 'utf8');
    const partly = { ...(JSON.parse(good) as object), lastRun: { at: 'never' } };
    const shapes = [
      '',
      '{',
      'null',
      '7',
      '[]',
      '{}',
      '\0'.repeat(20),
      good.slice(0, 100),
      good.replace('desktop', 'laptop'),
    ];
    shapes.push(JSON.stringify({ ...partly, lastRun: undefined, generations: [null] }), JSON.stringify(partly));
    shapes.push(good.replace(/("roots": \[\s*)"[^"]+"/, '$1"/nix/store/nothing"'));
    assert.equal(new Set([good, ...shapes]).size, shapes.length + 1);
    for (const text of shapes) {
      await writeFile(machine.stateFile('desktop'), text);
      const subscription = {
        name: 'desktop',
        source: made.root,
        import: false,
        sources: false,
        ready: false,
        publish: false,
      };
      assert.equal((await readStatus(subscription, machine.store, new Date())).health, 'never', text);
    }
    assert.equal((await machine.statusOf('desktop'))['health'], 'never');
    cache.resetCounts();
    const run = await machine.update(['--max-size', '0']);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([updated(run)['generation'], updated(run)['nars']], [1, 0]);
    assert.deepEqual(cache.requests, []);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
  });

  test('status reports a damaged state until an update replaces it', async () => {
    const { machine } = await scene();
    assert.equal((await machine.update()).status, 0);
    await writeFile(machine.stateFile('desktop'), 'garbage');
    const says = async (): Promise<string> =>
      (
        await lab.runPlain(['status', 'desktop', '--store', machine.store], {
          env: { NARSWARM_CONFIG: machine.config },
        })
      ).stdout;
    assert.match(await says(), /^desktop: its state is damaged, so nothing is known of its updates; .*\n$/);
    assert.equal((await machine.statusOf('desktop'))['isDamaged'], true);
    assertFailure(await machine.status(['--check']), 7, 'STORE_CORRUPT', /desktop: its state is damaged$/m);
    assert.equal((await machine.update()).status, 0);
    assert.match(await says(), /^desktop: complete/);
    assert.equal((await machine.statusOf('desktop'))['isDamaged'], false);
  });

  test('if the state of another subscription is damaged, nothing is collected, and a warning says so', async () => {
    const { machine } = await scene();
    await machine.subscribe({ desktop: { source: named('lab-0').storePath }, other: { source: made.root } });
    assert.equal((await machine.update()).status, 0);
    await writeFile(machine.stateFile('other'), '{');
    const run = await machine.update(['desktop', '--max-size', '0']);
    assert.equal(run.status, 0, run.stderr);
    assert.match(String(run.event('warning')['message']), /other\.json is damaged.*narswarm update other/);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
  });

  test('if a subscription has a damaged state and its source fails, its paths are not collected', async () => {
    const { machine, cache } = await scene();
    assert.equal((await machine.update()).status, 0);
    await writeFile(machine.stateFile('desktop'), '{');
    await machine.subscribe({ desktop: { source: `${cache.url}/store-paths` } });
    const run = await machine.update(['--max-size', '0']);
    assertFailure(run, 5, 'HTTP_NOT_FOUND', /the server does not have the list/);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 4);
  });

  test('a subscription with a new source starts again, and paths of the old source may be collected', async () => {
    const { machine } = await scene();
    assert.equal((await machine.update()).status, 0);
    await machine.subscribe({ desktop: { source: named('lab-0').storePath } });
    assert.equal((await machine.statusOf('desktop'))['health'], 'never', 'what is known is of the old one');
    const run = await machine.update(['--max-size', '0', '--keep-generations', '0']);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([updated(run)['generation'], updated(run)['nars']], [1, 0]);
    const { generations, source } = await machine.state('desktop');
    assert.deepEqual([generations.length, source], [1, named('lab-0').storePath]);
    assert.equal((await assertSound(machine.store, made.publicKey)).narInfos.length, 2);
    await machine.subscribe({});
    assert.equal((await machine.update(['--max-size', '0'])).status, 0);
    assert.deepEqual(
      await readdir(dirname(machine.stateFile('desktop'))),
      [],
      'what is subscribed to no more is forgotten',
    );
    assert.deepEqual((await assertSound(machine.store, made.publicKey)).narInfos, []);
  });

  test('a store with a damaged nix-cache-info fails with STORE_CORRUPT', async () => {
    const { machine } = await scene();
    assert.equal((await machine.update()).status, 0);
    await writeFile(join(machine.store, 'nix-cache-info'), 'hello');
    assertFailure(await machine.update(), 7, 'STORE_CORRUPT', /nix-cache-info is damaged/);
    assertFailure(await machine.status(), 7, 'STORE_CORRUPT', /nix-cache-info is damaged/);
  });

  test('if a NAR cannot be stored, the state says why, and the next subscription has its turn', async () => {
    const { machine } = await scene();
    const later = { source: named('lab-blob-1').storePath };
    await machine.subscribe({ desktop: { source: named('lab-0').storePath }, later });
    await mkdir(join(machine.store, named('lab-blob-0').url, 'in-the-way'), { recursive: true });
    const run = await machine.update();
    assertFailure(run, 7, 'STORE_UNWRITABLE', /cannot write .*: check its permissions or choose another --store/);
    const { lastRun } = await machine.state('desktop');
    assert.deepEqual([lastRun?.outcome, /cannot write/.test(lastRun?.failure?.reason ?? '')], ['failed', true]);
    assert.equal((await machine.statusOf('later'))['health'], 'complete', 'its files can be written');
  });

  /** Runs a command on a small tmpfs with the contents of `store`. */
  const onTmpfs = async (
    machine: Machine,
    { options, first = ':' }: { options: string; first?: string },
    work: (wrapper: readonly string[]) => Promise<Run>,
  ): Promise<{ run: Run; left: string }> => {
    await mkdir(`${machine.store}.after`, { recursive: true });
    await rm(`${machine.store}.before`, { recursive: true, force: true });
    assert.equal(spawnSync('cp', ['-r', machine.store, `${machine.store}.before`]).status, 0);
    const run = await work([...inNamespace('-m'), 'sh', '-c', SCRIPT, machine.store, options, first]);
    assert.notEqual(run.status, 99, `cannot mount a tmpfs: ${run.stderr}`);
    return { run, left: `${machine.store}.after` };
  };

  test('a full disk is STORE_FULL, in the state too if it can be written, and the store stays sound', async () => {
    const { machine } = await scene();
    await machine.subscribe({ desktop: { source: made.root }, later: { source: named('lab-0').storePath } });
    const { run, left } = await onTmpfs(machine, { options: 'size=200k' }, (wrapper) =>
      machine.update([], { wrapper }),
    );
    assertFailure(run, 7, 'STORE_FULL', new RegExp(`no space left on the device that holds ${machine.store}/`));
    assert.ok(
      run.events.some(({ event }) => event === 'collected'),
      'a budget is what helps then',
    );
    await assertSound(left, made.publicKey);
    const states = await readdir(join(left, 'narswarm/subscriptions'));
    assert.deepEqual(
      states.filter((name) => name !== 'desktop.json'),
      [],
    );
  });

  test('if the disk is full when the state is written, the old state stays whole', async () => {
    const { machine } = await scene();
    assert.equal((await machine.update()).status, 0);
    const written = await readFile(machine.stateFile('desktop'), 'utf8');
    const first =
      'dd if=/dev/zero of="$0/fill" bs=4k 2>/dev/null; dd if=/dev/zero of="$0/fill2" bs=1 count=4096 2>/dev/null; true';
    const { run, left } = await onTmpfs(machine, { options: 'size=1m', first }, (wrapper) =>
      machine.update([], { wrapper }),
    );
    assertFailure(run, 7, 'STORE_FULL', /no space left on the device/);
    assert.equal(await readFile(join(left, 'narswarm/subscriptions/desktop.json'), 'utf8'), written);
  });

  test('status reads a read-only store, and update says that it cannot write to it', async () => {
    const { machine } = await scene();
    assert.equal((await machine.update()).status, 0);
    const readOnly = { options: 'size=4m', first: 'mount -o remount,ro "$0"' };
    const status = await onTmpfs(machine, readOnly, (wrapper) => machine.status([], { wrapper }));
    assert.deepEqual([status.run.status, health(status.run.events)], [0, ['complete']], status.run.stderr);
    const { run } = await onTmpfs(machine, readOnly, (wrapper) => machine.update([], { wrapper }));
    assertFailure(run, 7, 'STORE_UNWRITABLE', new RegExp(`cannot write ${machine.store}.*another --store`));
  });
});
