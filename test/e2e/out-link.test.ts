/** `fetch --out-link`: a link that keeps what was fetched by hand. */
import assert from 'node:assert/strict';
import { lstat, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { collectGarbageOf, collectingNix, isValidIn } from '../support/collect-garbage.ts';
import { ALONE, assertFailure, Lab, requisites, type Run } from '../support/lab.ts';

describe('fetch --out-link', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let other: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    [made, other] = [await lab.closure([5_000]), await lab.closure([6_000], 'other')];
  });
  after(() => lab[Symbol.asyncDispose]());

  interface Scene {
    readonly store: string;
    readonly target: string;
    readonly link: string;
    readonly fetch: (args?: readonly string[], env?: Record<string, string>, wrapper?: string[]) => Promise<Run>;
  }
  const scene = async (): Promise<Scene> => {
    const store = await lab.folder('store');
    const target = `local?root=${await lab.folder('target')}`;
    const link = join(await lab.folder('links'), 'result');
    const from = [made, other].flatMap(({ cacheDir, publicKey }) => [
      '--from',
      cacheDir,
      '--trusted-public-key',
      publicKey,
    ]);
    const flags = ['--store', store, '--to', target, '--out-link', link, ...from, ...ALONE];
    return {
      store,
      target,
      link,
      fetch: (args = [], env = {}, wrapper = []) => lab.run(['fetch', made.root, ...flags, ...args], { env, wrapper }),
    };
  };

  test('keeps the path, also if Nix collects right after each of its copies', async () => {
    const { store, target, link, fetch } = await scene();
    const run = await fetch([], await collectingNix(lab, target));
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual([run.event('linked')['link'], run.event('linked')['path']], [link, made.root]);
    assert.equal(await readlink(link), made.root);
    await collectGarbageOf(lab, target);
    assert.equal(requisites(target, made.root).length, 2);
    assert.deepEqual(await readdir(join(store, 'narswarm', 'gcroots', '.fetch')), [], 'only the link is left');
    await rm(link);
    await collectGarbageOf(lab, target);
    assert.ok(!isValidIn(target, made.root));
  });

  test('makes a numbered link for each further root, and replaces links of before', async () => {
    const { target, link, fetch } = await scene();
    assert.equal((await fetch()).status, 0);
    const both = await fetch([other.root]);
    assert.equal(both.status, 0, both.stderr);
    assert.deepEqual([await readlink(link), await readlink(`${link}-1`)], [made.root, other.root]);
    await collectGarbageOf(lab, target);
    assert.ok(isValidIn(target, other.root));
  });

  test('leaves the link alone until the import is complete', async () => {
    const { store, target, link, fetch } = await scene();
    const killed = await fetch(['--import-with', 'nix-copy'], await collectingNix(lab, target, 'kill -9 $PPID'));
    assert.notEqual(killed.status, 0);
    await assert.rejects(lstat(link));
    assert.ok(isValidIn(target, made.root), 'kept for the next run');
    assert.equal((await fetch()).status, 0);
    assert.equal(await readlink(link), made.root);
    assert.deepEqual(await readdir(join(store, 'narswarm', 'gcroots', '.fetch')), []);
  });

  test('an update removes the links of a fetch that was killed', async () => {
    const { store, target, fetch } = await scene();
    const folder = join(store, 'narswarm', 'gcroots', '.fetch');
    await fetch(['--import-with', 'nix-copy'], await collectingNix(lab, target, 'kill -9 $PPID'));
    assert.equal((await readdir(folder)).length, 1);
    const run = await lab.run(['update', '--store', store, '--no-upstream', '--scope', 'off', ...ALONE]);
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(await readdir(folder), []);
  });

  test('refuses what it cannot keep, and files that it did not make', async (t) => {
    t.after(() => rm('/nix/store/result', { force: true })); // there is one if it does not refuse
    const { link, fetch } = await scene();
    assertFailure(await fetch(['--no-copy']), 2, 'USAGE', /leave out --no-copy/);
    assertFailure(await fetch(['--to', 'ssh-ng://nowhere']), 2, 'USAGE', /on this machine only/);
    await writeFile(link, 'mine');
    assertFailure(await fetch(), 2, 'USAGE', /is no link into the Nix store/);
    await rm(link);
    await writeFile(`${link}-1`, 'mine');
    assertFailure(await fetch([other.root]), 2, 'USAGE', /result-1" is no link into the Nix store/);
    assert.equal(await readFile(`${link}-1`, 'utf8'), 'mine');
    await assert.rejects(lstat(link));
    const lost = ['--out-link', join(link, 'lost')];
    assertFailure(await fetch(lost), 2, 'USAGE', /there is no folder .*result for --out-link: make it first/);
    // Nix runs in such a folder, too: a build's result is not to become a part of another path.
    const store = await lab.folder('in-store');
    await symlink('/nix/store', join(store, 'link'));
    for (const folder of ['/nix/store', join(store, 'link')])
      assertFailure(
        await fetch(['--out-link', join(folder, 'result')]),
        2,
        'USAGE',
        /in the Nix store, in \/nix\/store: choose/,
      );
    // root can write anywhere except on a read-only file system
    const wrapper = [
      'unshare',
      '--mount',
      'sh',
      '-c',
      `mount -t tmpfs -o ro tmpfs ${dirname(link)} && exec "$@"`,
      'sh',
    ];
    assertFailure(await fetch([], {}, wrapper), 2, 'USAGE', /cannot write .*links.* \(EROFS\): choose a folder/);
    const dry = await fetch(['--dry-run']);
    assert.equal(dry.status, 0, dry.stderr);
    await assert.rejects(lstat(link));
  });
});
