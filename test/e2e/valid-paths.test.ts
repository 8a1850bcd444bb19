/** Caches are not asked for paths that the target holds, since they may have lost them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import { baseNameOf, parseStorePath } from '../../src/nix/store-path.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, readNarInfos, requisites, type Run } from '../support/lab.ts';

describe('paths that the target holds', { concurrency: 4 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  /** The paths that a target holds: the package that the root refers to, and its closure. */
  let below: string;
  let held: readonly StorePath[];

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([100, 100, 100]);
    const root = (await readNarInfos(made.cacheDir)).get(baseNameOf(made.root).slice(0, 32));
    below = `/nix/store/${root?.references.find((name) => name.endsWith('-lab-1'))}`;
    held = requisites(made.buildStore, below).map(parseStorePath);
    assert.equal(held.length, 4);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A target that holds all below the root, and a cache whose narinfos of that were changed. */
  const scene = async (change: (file: string) => Promise<void>): Promise<{ target: string; cache: HttpCache }> => {
    const target = await lab.folder('target');
    nix(lab, ['copy', '--no-check-sigs', '--from', made.buildStore, '--to', target, below]);
    const dir = await lab.folder('cache');
    await cp(made.cacheDir, dir, { recursive: true });
    for (const path of held) await change(join(dir, `${baseNameOf(path).slice(0, 32)}.narinfo`));
    return { target, cache: lab.use(await startHttpCache(dir)) };
  };
  const rewrite = (edit: (text: string) => string) => async (file: string) =>
    writeFile(file, edit(await readFile(file, 'utf8')));
  const fetch = (target: string, store: string, args: readonly string[]): Promise<Run> => {
    const what = ['--store', store, '--to', target, '--trusted-public-key', made.publicKey];
    return lab.run(['fetch', made.root, ...what, ...ALONE, ...args]);
  };

  const changes: Record<string, (file: string) => Promise<void>> = {
    gone: (file) => rm(file),
    unsigned: rewrite((text) => text.replaceAll(/^(?:Sig|CA): .*\n/gm, '')),
    'signed by somebody else': rewrite((text) =>
      text.replaceAll(/^CA: .*\n/gm, '').replaceAll('Sig: lab-1', 'Sig: other-1'),
    ),
    damaged: (file) => writeFile(file, '<html>\n'),
  };
  for (const [how, change] of Object.entries(changes)) {
    test(`${how} in the cache`, async () => {
      const { target, cache } = await scene(change);
      const store = await lab.folder('store');
      const run = await fetch(target, store, ['--from', cache.url]);
      assert.equal(run.status, 0, run.stderr);
      assert.equal(requisites(target, made.root).length, 6);
      assert.equal(run.event('plan')['valid'], 4);
      const asked = cache.requests.map(({ url }) => url);
      for (const path of held) assert(!asked.some((url) => url.includes(baseNameOf(path).slice(0, 32))), path);
      // Nix can read the whole closure from the file store, and narswarm finds nothing wrong with it.
      const closure = nix(lab, ['path-info', '-r', '--store', `file://${store}`, made.root]);
      assert.equal(closure.trim().split('\n').length, 6);
      const verified = await lab.run(['verify', '--deep', '--store', store, '--trusted-public-key', made.publicKey]);
      assert.equal(verified.status, 0, verified.stdout + verified.stderr);
    });
  }

  test('a target over ssh is asked for paths that no cache has', async () => {
    const { target, cache } = await scene((file) => rm(file));
    const bin = await lab.folder('bin');
    // Instead of connecting, runs the command of ssh on this machine.
    const script = '#!/bin/sh\nwhile [ "${1#nix}" = "$1" ]; do shift; done\nexec sh -c "$*"\n';
    await writeFile(join(bin, 'ssh'), script, { mode: 0o755 });
    const uri = `ssh-ng://other?remote-store=${target}`;
    const what = ['--store', await lab.folder('store'), '--to', uri, '--trusted-public-key', made.publicKey];
    const settings = ['substituters =', 'build-users-group =', `trusted-public-keys = ${made.publicKey}`];
    const run = await lab.run(['fetch', made.root, ...what, ...ALONE, '--from', cache.url], {
      env: { PATH: `${bin}:${process.env['PATH']}`, NIX_CONFIG: settings.join('\n') },
    });
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('plan')['valid'], 4);
    assert.equal(requisites(target, made.root).length, 6);
  });

  test('a root that is valid is neither fetched nor published', async () => {
    const { target, cache } = await scene((file) => rm(file));
    const store = await lab.folder('store');
    const args = ['fetch', below, '--store', store, '--to', target, '--from', cache.url, ...ALONE];
    const run = await lab.run([...args, '--trusted-public-key', made.publicKey]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('done')['imported'], true);
    assert.deepEqual(cache.requests, []);
    assert.deepEqual(await readdir(join(store, 'nar')), []);
    const what = ['publish', '--once', '--store', store, '--key', lab.path('key')];
    const published = await lab.run([...what, '--trusted-public-key', made.publicKey]);
    assertFailure(published, 3, 'NOT_FOUND', /nothing in .* can be published .*its NAR is not in the store/);
  });

  test('if the target has lost a path, the cache is asked', async () => {
    const { target, cache } = await scene(() => Promise.resolve());
    const store = await lab.folder('store');
    const first = await fetch(target, store, ['--from', cache.url]);
    assert.equal(first.status, 0, first.stderr);
    const other = await lab.folder('target');
    const run = await fetch(other, store, ['--from', cache.url]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(other, made.root).length, 6);
  });

  test('a file store is not filled with paths of the target', async () => {
    const { target, cache } = await scene((file) => rm(file));
    const what = ['--store', await lab.folder('store'), '--trusted-public-key', made.publicKey, '--no-copy'];
    const run = await lab.run(['fetch', made.root, ...what, ...ALONE, '--from', cache.url], {
      env: { NIX_REMOTE: target },
    });
    assertFailure(run, 3, 'NARINFO_MISSING', /lab-1/);
  });

  test('an update passes over them', async () => {
    const { target, cache } = await scene((file) => rm(file));
    const config = lab.path('config.toml');
    await writeFile(config, `[subscriptions.s]\nsource = "${made.root}"\nimport = true\nto = "${target}"\n`);
    const store = await lab.folder('store');
    const what = ['--config', config, '--store', store, '--trusted-public-key', made.publicKey];
    const run = await lab.run(['update', ...what, ...ALONE, '--from', cache.url]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(requisites(target, made.root).length, 6);
    const status = await lab.run(['status', '--check', '--config', config, '--store', store]);
    assert.equal(status.status, 0, status.stdout);
  });
});

/** Returns the output of the real Nix. Fails the test if Nix fails. */
function nix(lab: Lab, args: readonly string[]): string {
  const options = ['--extra-experimental-features', 'nix-command', '--option', 'build-users-group', ''];
  const result = spawnSync('nix', [...args, ...options], { encoding: 'utf8', env: lab.env });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}
