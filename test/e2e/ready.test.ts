/** `narswarm ready`: what it says about a rebuild without a network is what the real Nix then does. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { assertFailure, type Lab, type Run } from '../support/lab.ts';
import type { ModelPaths } from '../support/model-flake.ts';
import { openModelLab, ReadyHost } from '../support/ready-host.ts';

/** Port of the daemon's substituter. Nobody listens there: `ready` asks the file store itself. */
const DAEMON = 'http://127.0.0.1:16275';

describe('narswarm ready', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let paths: ModelPaths;

  before(async () => {
    ({ lab, made, paths } = await openModelLab());
  });
  after(() => lab[Symbol.asyncDispose]());

  const newHost = (substituters = ''): Promise<ReadyHost> => ReadyHost.make(lab, made, substituters);
  const missingOf = (run: Run): unknown[] =>
    run.events.filter(({ event }) => event === 'missing').map(({ need, path, offer }) => [need, path, offer]);

  test('names what a rebuild lacks; when all is here, one changed file is rebuilt with everything off', async () => {
    const host = await newHost();
    const { model } = host;
    const unread = await host.ready(host.system);
    assert.equal(unread.status, 11, unread.stdout + unread.stderr);
    assert.deepEqual(unread.event('ready')['unevaluated'], [host.system]);
    assert.deepEqual(
      missingOf(unread).map(([need]: any) => need),
      ['flake-input'],
    );
    assert.match(unread.stderr, /lacks 1 flake input; .*known once the flake inputs are here/);

    await host.archive();
    const no = await host.ready(host.system);
    assert.equal(no.status, 11, no.stdout + no.stderr);
    assert.deepEqual(
      new Set(missingOf(no)),
      new Set([
        ['build-input', paths.tool, 'source'],
        ['build-input', paths.program, 'source'],
        ['source', paths.source, 'source'],
      ]),
    );
    const facts = no.event('ready');
    assert.deepEqual([facts['ready'], facts['missing'], facts['nars'], facts['builds']], [false, 3, 3, 3]);
    assert.ok(Number(facts['bytes']) > 0);
    assert.match(no.stderr, /lacks .*2 build inputs.*; 3 NARs \(\d+ B\) to download/);

    const fetched = await host.fetch(paths.tool, paths.program, paths.source);
    assert.equal(fetched.status, 0, fetched.stderr);
    await host.goOffline();
    const yes = await host.ready(host.system);
    assert.equal(yes.status, 0, yes.stderr);
    assert.deepEqual([yes.event('ready')['ready'], missingOf(yes)], [true, []]);
    await writeFile(model.configuration, 'host = boat\n');
    assert.equal((await host.ready(host.system)).status, 0);
    const built = await host.rebuild();
    assert.equal(built.failed, false, built.stderr);
    assert.equal((await host.ready(host.system)).status, 0, 'built here');

    // One build input less.
    await host.remove(paths.tool);
    const less = await host.ready(host.system);
    assert.equal(less.status, 11, less.stdout);
    assert.deepEqual(missingOf(less), [['build-input', paths.tool, 'unknown']]);
    await writeFile(model.configuration, 'host = island\n');
    assert.equal((await host.rebuild()).failed, true);
  });

  test('what only the file store holds counts if Nix asks the daemon of this machine', async () => {
    const [asking, other] = [await newHost(DAEMON), await newHost()];
    for (const host of [asking, other]) {
      await host.archive();
      const fetched = await host.fetch(paths.tool, paths.program, paths.source, '--no-copy');
      assert.equal(fetched.status, 0, fetched.stderr);
      await host.goOffline();
      const run = await host.ready(host.system);
      assert.equal(run.status, host === asking ? 0 : 11, run.stdout + run.stderr);
      assert.equal(run.event('ready')['stored'], host === asking ? 3 : 2);
      if (host === other) assert.match(run.stderr, /2 of them in the file store, where Nix does not ask/);
    }
  });

  test('what can be built from what is here, and is in the file store, too, is not told of', async () => {
    const host = await newHost();
    await host.archive();
    for (const args of [
      [paths.tool, paths.source],
      [paths.program, '--no-copy'],
    ])
      assert.equal((await host.fetch(...args)).status, 0);
    const lost = await host.nix('build', '--no-link', `${host.model.flake}#lost`);
    assert.equal(lost.failed, false, lost.stderr);
    const run = await host.ready(host.system);
    assert.deepEqual([run.status, run.event('ready')['stored']], [0, 0], run.stderr);
  });

  test('a source that no cache has is named as such; --sources wants all of them', async () => {
    const host = await newHost();
    await host.archive();
    const fetched = await host.fetch(paths.tool, paths.program, paths.source);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal((await host.ready(host.system)).status, 0);
    const run = await host.ready(host.system, '--sources');
    assert.deepEqual([run.status, missingOf(run)], [11, [['source', paths.lost, 'nowhere']]]);
    assert.match(run.stderr, /lacks 1 source; 1 of them in no cache/);
  });

  test('--offline asks nobody, and knows no sizes', async () => {
    const host = await newHost();
    await host.archive();
    const asked = host.cache.requests.length;
    const run = await host.ready(host.system, '--offline');
    assert.equal(run.status, 11);
    assert.deepEqual(
      run.events.flatMap(({ event, offer, sizeBytes }) => (event === 'missing' ? [[offer, sizeBytes]] : [])),
      [1, 2, 3].map(() => ['unknown', undefined]),
    );
    assert.equal(host.cache.requests.length, asked);
  });

  test('a .drv, a built path and a link to it are rebuilt from their derivation; without one, the path alone counts', async () => {
    const host = await newHost();
    await host.archive();
    await host.fetch(paths.tool, paths.program, paths.source);
    const drv = JSON.parse((await host.nix('eval', '--json', `${host.system}.drvPath`)).stdout) as string;
    const link = lab.path('result');
    assert.equal((await host.nix('build', '-o', link, host.system)).failed, false);
    for (const what of [drv, link]) {
      const run = await host.ready(what, '--offline');
      assert.deepEqual([run.status, run.event('ready')['builds']], [0, 3], run.stderr);
    }
    const run = await host.ready(paths.program, '--offline');
    assert.deepEqual([run.status, run.event('ready')['underived']], [0, [paths.program]], run.stderr);
  });

  test('nothing is asked over the network for an evaluation', async () => {
    const host = await newHost();
    const { site } = host.model;
    const folder = await lab.folder('unlocked');
    await writeFile(
      join(folder, 'flake.nix'),
      `{ inputs.far.url = "${site.url}/source.tar.gz"; outputs = { self, far }: { system = far.x; }; }\n`,
    );
    await writeFile(
      join(folder, 'default.nix'),
      `{ system = import (builtins.fetchTarball "${site.url}/source.tar"); }\n`,
    );
    assert.equal((await host.ready(`path:${folder}#system`)).status, 8);
    assert.equal((await host.ready('system', '--file', join(folder, 'default.nix'))).status, 8);
    assert.deepEqual(site.requests, []);
  });

  test('what cannot be evaluated without a network is refused in Nix’s words', async () => {
    const host = await newHost();
    await rm(join(host.model.flake.slice('path:'.length), 'flake.lock'));
    await host.goOffline();
    const run = await host.ready(host.system);
    assert.equal(run.status, 8);
    assert.match(run.stderr, /flake cannot be evaluated: .*input/);
    const file = join(host.model.flake.slice('path:'.length), 'one.nix');
    await writeFile(file, '{ }\n');
    const absent = await host.ready('nosuch', '--file', file);
    assertFailure(absent, 8, 'NIX_FAILED', /^error: nosuch cannot be evaluated: attribute 'nosuch' [^;]*$/m);
    const git = join(host.model.flake.slice('path:'.length), 'git.nix');
    await writeFile(git, '{ a = builtins.fetchGit "https://example.org/a.git"; }\n');
    const far = await host.ready('a', '--file', git);
    assertFailure(far, 8, 'NIX_FAILED', /^error: a cannot be evaluated without a network: .*: evaluate it once/);
    assertFailure(await host.ready('https://example.org/store-paths.xz'), 2, 'USAGE', /does not say what is built/);
  });
});
