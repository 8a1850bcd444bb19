/** Subscriptions to installables that the real Nix evaluates, and to profiles in its store. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { evaluatedBuilds, type EvaluatedBuilds } from '../support/evaluated-builds.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, requisites } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { buildOwn } from '../support/own-builds.ts';

const BLOBS = [60_000, 5_000];
const PATHS = BLOBS.length * 2;

describe('updates of installables and profiles', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let builds: EvaluatedBuilds;
  let flags: readonly string[];

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    builds = await evaluatedBuilds(made, await lab.folder('builds'));
    const cache = lab.use(await startHttpCache(made.cacheDir));
    flags = ['--from', cache.url, '--trusted-public-key', made.publicKey, ...ALONE];
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine whose Nix has a store of its own, empty unless one is given. */
  const machine = async (buildStore?: string): Promise<Machine> => {
    const root = buildStore ?? (await lab.folder('nix'));
    return Machine.make(lab, { flags, env: { NIX_REMOTE: `local?root=${root}` } });
  };
  const baseName = (path: string): string => path.slice('/nix/store/'.length);

  test('an attribute whose output is in the cache brings its closure, and nothing is built', async () => {
    const one = await machine();
    await one.subscribe('cached', 'cached', '--file', builds.file);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], done['nars'], done['notes']], ['complete', PATHS, []]);
    assert.ok((await assertSound(one.store, made.publicKey)).narInfos.includes(baseName(made.root)));
    assert.deepEqual([(await one.updated())['generation'], (await one.status('cached'))['health']], [1, 'complete']);
  });

  test('for an output that no cache has, the inputs of its build are fetched, and a note says so', async () => {
    const one = await machine();
    await one.subscribe('top', 'top', '--file', builds.file);
    const dry = await one.updated('--dry-run');
    assert.deepEqual([dry['outcome'], dry['nars'], (dry['notes'] as string[]).length], ['dry-run', PATHS + 1, 2]);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], done['nars']], ['complete', PATHS + 1]);
    const { narInfos } = await assertSound(one.store, made.publicKey);
    assert.deepEqual(
      [made.root, builds.source].map((path) => narInfos.includes(baseName(path))),
      [true, true],
    );
    const [first = '', second = ''] = done['notes'] as string[];
    assert.match(first, /^no cache has \/nix\/store\/\S+-top: the inputs of its build are used instead$/);
    assert.match(second, /^1 of its paths is in no cache and was left out: \/nix\/store\/\S+-lost\.tar$/);
    const status = await one.status('top');
    assert.deepEqual([status['health'], status['notes'], status['missing']], ['complete', done['notes'], []]);
  });

  test('a flake is evaluated in place', async () => {
    const one = await machine();
    await one.subscribe('flake', `path:${builds.flake}#top`);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], done['nars']], ['complete', 1]);
    assert.deepEqual((await assertSound(one.store, made.publicKey)).narInfos, [baseName(builds.source)]);
    await assert.rejects(readFile(join(builds.flake, 'flake.lock')), { code: 'ENOENT' });
  });

  test('if no cache has anything of a build, the update is not complete', async () => {
    const one = await machine();
    await one.subscribe('gone', 'gone', '--file', builds.file);
    assertFailure(await one.update(), 3, 'NARINFO_MISSING', /\S+-gone is missing, and 1 more/);
    assert.deepEqual(
      [(await one.status('gone'))['health'], (await one.status('gone'))['missingCount']],
      ['incomplete', 2],
    );
  });

  test('a broken expression fails with Nix’s words, and the next subscription has its turn', async () => {
    const one = await machine();
    await one.subscribe('broken', 'nothing.like.this', '--file', builds.file);
    await one.subscribe('cached', made.root);
    const run = await one.update();
    assert.equal(run.status, 8, run.stderr);
    assert.match(run.stderr, /1 of 2 subscriptions not complete: broken: .*nothing/);
    const outcomes = run.events.filter(({ event }) => event === 'subscription').map(({ outcome }) => outcome);
    assert.deepEqual(outcomes, ['failed', 'complete']);
    assert.equal((await one.status('cached'))['health'], 'complete');
    await one.subscribe('cached', builds.source, '--replace');
    assert.equal((await one.status('cached'))['health'], 'never', 'that was of another source');
  });

  test('--sources fetches all fixed outputs of a build from nothing; one that no cache has is no failure', async () => {
    const one = await machine();
    await one.subscribe('cached', 'low', '--file', builds.file, '--sources');
    const done = await one.updated();
    assert.equal(done['outcome'], 'complete');
    const { narInfos } = await assertSound(one.store, made.publicKey);
    assert.ok(narInfos.includes(baseName(builds.source)));
    assert.match((done['notes'] as string[]).join('\n'), /1 of its paths is in no cache and was left out/);
  });

  test('--sources of an output that no cache has names a missing source once, with --quiet too', async () => {
    const one = await machine();
    await one.subscribe('top', 'top', '--file', builds.file, '--sources');
    const run = await one.update();
    const done = run.event('subscription');
    const [replaced = '', leftOut = '', ...more] = done['notes'] as string[];
    assert.match(replaced, /the inputs of its build are used instead$/);
    assert.match(leftOut, /^1 of its paths is in no cache and was left out: \/nix\/store\/\S+-lost\.tar$/);
    assert.deepEqual([more, done['outcome'], done['leftOutCount']], [[], 'complete', 1]);
    assert.match(String(done['leftOut']), /^\/nix\/store\/\S+-lost\.tar$/);
    assert.equal(run.event('warning')['message'], `top: ${leftOut}`);
  });

  test('of a profile, paths that a cache has are held; local builds are neither held nor published', async () => {
    const own = await buildOwn(made, await lab.folder('own'));
    const one = await machine(made.buildStore);
    const profile = join(await lab.folder('profiles'), 'system');
    await symlink(own.root, profile);
    await one.configure(`publish = true\nkey = ${JSON.stringify(lab.path('key'))}`);
    await one.subscribe('system', profile, '--publish');
    const run = await one.update();
    assert.equal(run.status, 0, run.stderr);
    const done = run.event('subscription');
    assert.deepEqual([done['outcome'], done['paths'], done['nars']], ['complete', PATHS, PATHS]);
    const notes = (done['notes'] as string[]).join('\n');
    assert.match(notes, /: its closure on this machine is \d+ paths; those that were built here are in no cache$/m);
    assert.match(notes, /3 of its paths are in no cache and were left out/);
    assert.ok(!run.events.some(({ event }) => event === 'warning'), 'that is as it should be');
    assert.deepEqual([run.event('built')['records'], run.event('built')['leftOut']], [PATHS, 0]);
    const { narInfos } = await assertSound(one.store, made.publicKey);
    assert.equal(narInfos.includes(baseName(own.root)), false);
  });

  test('for a profile that a cache has whole, nothing is said about local builds', async () => {
    const one = await machine(made.buildStore);
    const profile = join(await lab.folder('profiles'), 'system');
    await symlink(made.root, profile);
    await one.subscribe('system', profile);
    const done = await one.updated();
    assert.deepEqual([done['nars'], done['notes'], done['leftOutCount']], [PATHS, [], 0]);
  });

  test('import can be turned on later and off again', async () => {
    const one = await machine();
    const target = `local?root=${await lab.folder('target')}`;
    await one.subscribe('lab', made.root);
    assert.equal((await one.updated())['nars'], PATHS);
    await one.subscribe('lab', made.root, '--import', '--to', target, '--replace');
    const imported = await one.updated();
    assert.deepEqual([imported['outcome'], imported['generation'], imported['nars']], ['complete', 1, 0]);
    assert.equal(requisites(target, made.root).length, PATHS);

    const other = await machine();
    await other.subscribe('lab', made.root, '--import', '--to', target);
    assert.equal((await other.updated())['nars'], 0, 'the target has all');
    // Without an import, its target is not asked.
    await other.run(['unsubscribe', 'lab']);
    await other.subscribe('lab', made.root);
    const off = await other.update([], { NIX_REMOTE: target });
    assert.deepEqual([off.status, off.event('subscription')['nars']], [0, PATHS], off.stderr);
    await assertSound(other.store, made.publicKey);
  });

  test('a failed import is reported; its paths stay, even beyond the budget, and are imported the next time', async () => {
    const one = await machine();
    const target = `local?root=${await lab.folder('target')}`;
    await one.configure('max-size = "1kB"');
    await one.subscribe('lab', made.root, '--import', '--to', target);
    const bin = await lab.folder('bin');
    const script =
      '#!/bin/sh\ncase " $* " in *" copy "*) echo "error: no copy today" >&2; exit 1;; esac\nexec "$NIX" "$@"\n';
    await writeFile(join(bin, 'nix'), script, { mode: 0o755 });
    const path = process.env['PATH'] ?? '';
    const nix = spawnSync('sh', ['-c', 'command -v nix'], { encoding: 'utf8' }).stdout.trim();
    const failed = await one.update(['--import-with', 'nix-copy'], { PATH: `${bin}:${path}`, NIX: nix });
    assertFailure(failed, 8, 'IMPORT_FAILED', /no copy today/);
    const told = failed.event('subscription');
    assert.deepEqual([told['outcome'], told['generation'], told['nars']], ['incomplete', 1, PATHS]);
    assert.equal((await assertSound(one.store, made.publicKey)).nars.length, PATHS);
    const done = await one.updated();
    assert.deepEqual([done['outcome'], done['generation'], done['nars']], ['complete', 1, 0]);
    assert.equal(requisites(target, made.root).length, PATHS);
  });
});
