/** Output of `narswarm status` for people and for scripts, beside that of `narswarm update`. */
import assert from 'node:assert/strict';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { SubscriptionState } from '../../src/subscription/state/state.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, readNarInfos, type Run } from '../support/lab.ts';
import { Machine, updated } from '../support/update-lab.ts';

const NOWHERE = `/nix/store/${'a'.repeat(32)}-nowhere`;

describe('reports on subscriptions', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([40_000, 30_000, 20_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A cache that lacks the NARs of all blobs, and a machine that asks it. */
  const scene = async (): Promise<{
    machine: Machine;
    cache: HttpCache;
    dir: string;
    flags: string[];
    lost: string[];
  }> => {
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    const blobs = [...(await readNarInfos(dir)).values()].filter(({ storePath }) => storePath.includes('-lab-blob-'));
    for (const { url } of blobs) await rm(join(dir, url));
    const cache = lab.use(await startHttpCache(dir));
    const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
    const machine = await Machine.of(lab, { desktop: { source: made.root } }, flags);
    return { machine, cache, dir, flags, lost: blobs.map(({ storePath }) => storePath) };
  };
  const plain = (machine: Machine, args: readonly string[]): Promise<Run> =>
    lab.runPlain([...args, '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
  const timesIn = (text: string, what: string): number => text.split(what).length - 1;

  test('a person reads each path and each reason once; a script gets all', async () => {
    const { machine, cache, flags, lost } = await scene();
    const update = await plain(machine, ['update', ...ALONE, ...flags]);
    assert.equal(update.status, 5);
    assert.match(update.stdout, /^desktop: incomplete: (\S+) is missing, and 2 more: \S+ does not hold its NAR\n$/);
    assert.match(update.stderr, /^error: 1 of 1 subscription not complete: desktop$/m);
    const { status, stdout } = await plain(machine, ['status', 'desktop']);
    assert.equal(status, 0);
    assert.match(
      stdout,
      new RegExp(`^  missing   3 paths: ${cache.url} does not hold its NAR\n(?: {14}/\\S+\n){3}$`, 'm'),
    );
    for (const what of [...lost, 'does not hold']) assert.equal(timesIn(stdout, what), 1, stdout);
    const { missing, lastRun } = await machine.statusOf('desktop');
    const reasons = lost.map((path) => `cannot fetch ${path}: ${cache.url} does not hold the NAR of ${path}`);
    const known = missing as { path: string; reason: string }[];
    assert.deepEqual(new Set(known.map(({ path }) => path)), new Set(lost));
    assert.deepEqual(new Set(known.map(({ reason }) => reason)), new Set(reasons));
    const { code, message, lack } = lastRun as { code: string; message: string; lack: object };
    assert.equal(code, 'NAR_UNAVAILABLE');
    assert.deepEqual(lack, { path: known[0]?.path, count: 3 });
    assert.equal(message, `${known[0]?.path} is missing, and 2 more: ${cache.url} does not hold its NAR`);
    assert.equal(updated(await machine.update())['message'], message);
  });

  test('the state has the reason for the first missing path, even if it is not among the listed ones', async () => {
    const { machine, cache } = await scene();
    await machine.update();
    const file = machine.stateFile('desktop');
    const state = JSON.parse(await readFile(file, 'utf8')) as SubscriptionState;
    await writeFile(file, JSON.stringify({ ...state, missing: [] }));
    const says = `${state.missing[0]?.path} is missing, and 2 more: ${cache.url} does not hold its NAR`;
    assert.equal(((await machine.statusOf('desktop'))['lastRun'] as { message: string }).message, says);
    const { stdout } = await plain(machine, ['status']);
    assert.equal(timesIn(stdout, `  why       ${says}\n`), 1, stdout);
    assertFailure(await machine.status(['--check']), 5, 'NAR_UNAVAILABLE', new RegExp(`desktop: ${says}`));
  });

  test('the sentence in a state of an earlier version is shown as it is', async () => {
    const { machine, cache, lost } = await scene();
    await machine.update();
    const file = machine.stateFile('desktop');
    const { lastRun, missing, ...state } = JSON.parse(await readFile(file, 'utf8')) as SubscriptionState;
    const { failure: _failure, lack: _lack, ...run } = lastRun!;
    const [first] = missing;
    const lack = { path: first?.path, count: 3 };
    const message = `${first?.path} is missing, and 2 more: cannot fetch it`;
    const told = async (had: object, listed = missing): Promise<[message: string, text: string]> => {
      await writeFile(file, JSON.stringify({ ...state, missing: listed, lastRun: { ...run, ...had } }));
      const { lastRun: shown } = await machine.statusOf('desktop');
      return [(shown as { message: string }).message, (await plain(machine, ['status'])).stdout];
    };
    for (const had of [{ message }, { message, code: 'NAR_UNAVAILABLE', lack }]) {
      const [inJson, text] = await told(had, []);
      assert.equal(inJson, message);
      assert.equal(timesIn(text, `  why       ${message}\n`), 1, text);
    }
    const [inJson, text] = await told({ message, code: 'NAR_UNAVAILABLE', lack });
    assert.equal(inJson, `${first?.path} is missing, and 2 more: ${cache.url} does not hold its NAR`);
    for (const what of [...lost, 'does not hold']) assert.equal(timesIn(text, what), 1, text);
    assertFailure(await machine.status(['--check']), 5, 'NAR_UNAVAILABLE', /is missing, and 2 more: /);
  });

  test('a failure is shown beside the paths that an earlier run found missing', async () => {
    const { machine, cache } = await scene();
    await machine.subscribe({ list: { source: `${cache.url}/store-paths` } });
    cache.faults = [{ match: /store-paths/, kind: 'status', status: 404 }];
    assert.equal((await machine.update()).status, 5);
    const { stdout } = await plain(machine, ['status']);
    assert.match(stdout, /^ {2}why {7}the server does not have the list/m);
  });

  test('--check gives the status of the last update, 3 before it, 0 once everything is there', async () => {
    const { machine, dir } = await scene();
    const missing = await machine.status(['--check']);
    assertFailure(missing, 3, 'NOT_FOUND', /^error: 1 of 1 subscription not complete: desktop: never updated$/m);
    assert.equal(missing.event('status')['health'], 'never');
    const update = await machine.update();
    assertFailure(await machine.status(['--check']), 5, 'NAR_UNAVAILABLE', new RegExp(update.stderr.trimEnd()));
    await machine.subscribe({ nowhere: { source: NOWHERE }, desktop: { source: made.root } });
    assert.equal((await machine.update(['nowhere'])).status, 3);
    assertFailure(await machine.status(['--check']), 3, 'NARINFO_MISSING', /2 of 2 .*: nowhere: .*; desktop: /);
    assertFailure(await machine.status(['--check', 'desktop']), 5, 'NAR_UNAVAILABLE', /1 of 1 .*: desktop: /);
    assert.equal((await machine.status()).status, 0, 'without it only what is asked for is told');
    const told = await plain(machine, ['status', '--check', 'desktop']);
    assert.equal(told.stderr, 'error: 1 of 1 subscription not complete: desktop\n');
    await cp(made.cacheDir, dir, { recursive: true });
    assert.equal((await machine.update(['desktop'])).status, 0);
    const whole = await machine.status(['--check', 'desktop']);
    assert.deepEqual([whole.status, whole.stderr], [0, '']);
  });

  test('a subscription whose files were lost is not complete until they are repaired', async () => {
    const { machine, cache, dir, flags } = await scene();
    await cp(made.cacheDir, dir, { recursive: true });
    await machine.subscribe({ desktop: { source: made.root, import: false } });
    assert.equal((await machine.update()).status, 0);
    assert.equal((await machine.status(['--check'])).status, 0);
    // The path whose narinfo is removed is the last and refers to nothing: paths behind it would not be seen.
    const [third, second, first] = [...(await readNarInfos(machine.store)).values()]
      .filter(({ storePath }) => storePath !== made.root)
      .toSorted((a, b) => a.references.length - b.references.length);
    assert.deepEqual(third?.references, []);
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    const narInfoOf = (storePath: string): string => join(machine.store, `${storePath.slice(11, 43)}.narinfo`);
    await rm(join(machine.store, first.url));
    await writeFile(join(machine.store, second.url), 'rotten');
    await writeFile(narInfoOf(third.storePath), 'junk');
    assert.equal((await lab.run(['verify', '--store', machine.store])).status, 7);
    assertFailure(await machine.status(['--check']), 7, 'STORE_CORRUPT', /desktop: \S+ is missing, and 2 more: it was/);
    const { health, missing, missingCount } = await machine.statusOf('desktop');
    assert.deepEqual([health, missingCount], ['stale', 3]);
    assert.deepEqual(
      new Set((missing as { path: string }[]).map(({ path }) => path)),
      new Set([first, second, third].map(({ storePath }) => storePath)),
    );
    const { stdout } = await plain(machine, ['status']);
    assert.match(stdout, /^desktop: damaged; last complete as of .* \(generation 1/);
    assert.match(stdout, /^ {2}missing {3}3 paths: it was here, but no longer is: run narswarm verify --repair$/m);
    const repair = await lab.run(['verify', '--store', machine.store, '--repair', ...flags, ...ALONE]);
    assert.equal(repair.status, 0, repair.stderr);
    assert.equal((await machine.status(['--check'])).status, 0);
    assert.ok(cache.requests.length > 0);
  });

  test('--check takes a state without a known code for a failure of the sources', async () => {
    const { machine } = await scene();
    await machine.update();
    const file = machine.stateFile('desktop');
    const state = JSON.parse(await readFile(file, 'utf8')) as { lastRun: { failure: object } };
    for (const code of [undefined, 'OF_TOMORROW', 'toString']) {
      const failure = { ...state.lastRun.failure, code };
      await writeFile(file, JSON.stringify({ ...state, lastRun: { ...state.lastRun, failure } }));
      assertFailure(await machine.status(['--check']), 5, 'NAR_UNAVAILABLE', /is missing/);
    }
  });
});
