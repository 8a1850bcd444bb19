/** `narswarm ready`: what it says about a rebuild without a network is what the real Nix then does. */
import assert from 'node:assert/strict';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, Lab, type Run } from '../support/lab.ts';
import { BUILDS, cacheModel, modelFlake, type ModelFlake, type ModelPaths } from '../support/model-flake.ts';

/** Port of the daemon's substituter. Nobody listens there: `ready` asks the file store itself. */
const DAEMON = 'http://127.0.0.1:16275';

describe('narswarm ready', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let paths: ModelPaths;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([5_000]);
    const model = await modelFlake(await lab.folder('model'));
    lab.use(model.site);
    paths = await cacheModel(made, model);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine with an empty Nix store, a model flake of its own, and a cache that can be switched off. */
  class Host {
    readonly model: ModelFlake;
    readonly cache: HttpCache;
    readonly store: string;
    readonly env: Record<string, string>;
    readonly flags: readonly string[];

    private constructor(model: ModelFlake, cache: Host['cache'], store: string, nixRoot: string, substituters: string) {
      this.model = model;
      this.cache = cache;
      this.store = store;
      const config = `${BUILDS}substituters = ${substituters}\ntrusted-public-keys = ${made.publicKey}\n`;
      this.env = { NIX_REMOTE: `local?root=${nixRoot}`, NIX_CONFIG: config };
      this.flags = ['--store', store, '--from', cache.url, '--trusted-public-key', made.publicKey, ...ALONE];
    }

    static async make(substituters = ''): Promise<Host> {
      const cache = lab.use(await startHttpCache(made.cacheDir));
      const model = await modelFlake(await lab.folder('model'));
      lab.use(model.site);
      return new Host(model, cache, await lab.folder('store'), await lab.folder('nix'), substituters);
    }

    get system(): string {
      return `${this.model.flake}#system`;
    }

    ready(...args: readonly string[]): Promise<Run> {
      return lab.run(['ready', ...this.flags, ...args], { env: this.env });
    }

    fetch(...args: readonly string[]): Promise<Run> {
      return lab.run(['fetch', ...this.flags, ...args], { env: this.env });
    }

    async nix(...args: readonly string[]): Promise<{ failed: boolean; stderr: string; stdout: string }> {
      const { failed, stdout, stderr } = await execa('nix', args, { env: { ...lab.env, ...this.env }, reject: false });
      return { failed, stdout, stderr };
    }

    /** Brings the inputs of the flake into the Nix store. */
    async archive(): Promise<void> {
      const done = await this.nix('flake', 'archive', this.model.flake);
      assert.equal(done.failed, false, done.stderr);
    }

    /** Switches everything off that is not this machine. */
    async goOffline(): Promise<void> {
      await this.cache[Symbol.asyncDispose]();
      await this.model.site[Symbol.asyncDispose]();
      await rename(this.model.input, `${this.model.input}.gone`);
    }

    async rebuild(): Promise<{ failed: boolean; stderr: string }> {
      return this.nix('build', '--offline', '--no-link', '--no-write-lock-file', this.system);
    }
  }

  const missingOf = (run: Run): unknown[] =>
    run.events.filter(({ event }) => event === 'missing').map(({ need, path, offer }) => [need, path, offer]);

  test('names what a rebuild lacks; when all is here, one changed file is rebuilt with everything off', async () => {
    const host = await Host.make();
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
    assert.deepEqual([facts['ready'], facts['missing'], facts['nars'], facts['builds']], [false, 3, 3, 2]);
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
    const collected = await execa('nix-store', ['--delete', paths.tool], { env: { ...lab.env, ...host.env } });
    assert.equal(collected.exitCode, 0);
    const less = await host.ready(host.system);
    assert.equal(less.status, 11, less.stdout);
    assert.deepEqual(missingOf(less), [['build-input', paths.tool, 'unknown']]);
    await writeFile(model.configuration, 'host = island\n');
    assert.equal((await host.rebuild()).failed, true);
  });

  test('what only the file store holds counts if Nix asks the daemon of this machine', async () => {
    const [asking, other] = [await Host.make(DAEMON), await Host.make()];
    for (const host of [asking, other]) {
      await host.archive();
      const fetched = await host.fetch(paths.tool, paths.program, paths.source, '--no-copy');
      assert.equal(fetched.status, 0, fetched.stderr);
      await host.goOffline();
      const run = await host.ready(host.system);
      assert.equal(run.status, host === asking ? 0 : 11, run.stdout + run.stderr);
      assert.equal(run.event('ready')['stored'], 3);
      if (host === other) assert.match(run.stderr, /3 of them in the file store, where Nix does not ask/);
    }
  });

  test('a source that no cache has is named as such; --sources wants all of them', async () => {
    const host = await Host.make();
    await host.archive();
    const fetched = await host.fetch(paths.tool, paths.program, paths.source);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.equal((await host.ready(host.system)).status, 0);
    const run = await host.ready(host.system, '--sources');
    assert.deepEqual([run.status, missingOf(run)], [11, [['source', paths.lost, 'nowhere']]]);
    assert.match(run.stderr, /lacks 1 source; 1 of them in no cache/);
  });

  test('--offline asks nobody, and knows no sizes', async () => {
    const host = await Host.make();
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
    const host = await Host.make();
    await host.archive();
    await host.fetch(paths.tool, paths.program, paths.source);
    const drv = JSON.parse((await host.nix('eval', '--json', `${host.system}.drvPath`)).stdout) as string;
    const link = lab.path('result');
    assert.equal((await host.nix('build', '-o', link, host.system)).failed, false);
    for (const what of [drv, link]) {
      const run = await host.ready(what, '--offline');
      assert.deepEqual([run.status, run.event('ready')['builds']], [0, 2], run.stderr);
    }
    const run = await host.ready(paths.program, '--offline');
    assert.deepEqual([run.status, run.event('ready')['underived']], [0, [paths.program]], run.stderr);
  });

  test('what cannot be evaluated without a network is refused in Nix’s words', async () => {
    const host = await Host.make();
    await rm(join(host.model.flake.slice('path:'.length), 'flake.lock'));
    await host.goOffline();
    const run = await host.ready(host.system);
    assert.equal(run.status, 8);
    assert.match(run.stderr, /cannot be evaluated without a network: lock its inputs .*: nix failed: /);
    assertFailure(await host.ready('https://example.org/store-paths.xz'), 2, 'USAGE', /does not say what is built/);
  });
});
