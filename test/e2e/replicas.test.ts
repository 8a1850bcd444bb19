/** Copies of a machine's NARs at its neighbours, as status shows them. */
import assert from 'node:assert/strict';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheProcess } from '../support/cache-process.ts';
import { Lab, readNarInfos } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';

interface Counted {
  readonly machines: number;
  readonly roots: readonly { readonly path: string; readonly holders: number; readonly sole: readonly string[] }[];
}

suite('copies at other machines', () => {
  let lab: Lab;
  let common: MadeClosure;
  let rare: MadeClosure;

  before(async () => {
    requireNamespaces();
    lab = await Lab.open();
    common = await lab.closure([30_000, 5_000], 'common');
    rare = await lab.closure([20_000], 'rare');
  });
  after(() => lab[Symbol.asyncDispose]());

  const trust = (): string[] =>
    [common, rare].flatMap(({ publicKey }) => ['--trusted-public-key', publicKey, '--share-keys', publicKey]);

  /** A machine that holds closures and seeds them. */
  async function machine(
    host: Host,
    held: readonly MadeClosure[],
    { nix = {} }: { readonly nix?: Readonly<Record<string, string>> } = {},
  ): Promise<{ store: string; config: string }> {
    const store = await lab.folder('store');
    const config = lab.path('config.toml');
    const isReleased = Object.keys(nix).length > 0;
    const env = { NARSWARM_CONFIG: config, ...nix };
    await writeFile(config, isReleased ? 'keep-imported = "recipe"\n' : '');
    for (const { root, cacheDir } of held) {
      const name = root === common.root ? 'common' : 'rare';
      const added = await lab.run(['subscribe', name, root, ...(isReleased ? ['--import'] : [])], { env });
      assert.equal(added.status, 0, added.stderr);
      await using cache = await startCacheProcess(cacheDir, host.wrapper);
      const from = ['--from', `http://127.0.0.1:${cache.port}`, '--no-lan', '--no-dht'];
      const run = await lab.run(['update', name, '--store', store, ...trust(), ...from], {
        env,
        wrapper: host.wrapper,
      });
      assert.equal(run.status, 0, run.stderr);
    }
    await lab.service(['daemon', '--store', store, ...trust(), '--no-dht'], { env, wrapper: host.wrapper });
    return { store, config };
  }

  async function counted(name: string, of: { store: string; config: string }): Promise<Counted | null> {
    const env = { NARSWARM_CONFIG: of.config };
    const run = await lab.run(['status', name, '--store', of.store], { env });
    return run.event('status')['replicas'] as Counted | null;
  }

  test('are counted for each root, and NARs without a copy are named', async () => {
    await using lan = Lan.open();
    const both = await machine(lan.host('both'), [common, rare]);
    await machine(lan.host('one'), [common]);
    let found = await counted('common', both);
    let alone = await counted('rare', both);
    while (found?.roots[0]?.holders !== 1 || alone?.roots[0] === undefined) {
      await sleep(500);
      found = await counted('common', both);
      alone = await counted('rare', both);
    }
    assert.equal(found.machines, 1);
    assert.deepEqual(found.roots, [{ ...found.roots[0], path: common.root, sole: [] }]);
    assert.equal(alone.roots[0].holders, 0);
    assert.equal(alone.roots[0].sole.length, 2);
    const env = { NARSWARM_CONFIG: both.config };
    const told = await lab.runPlain(['status', '--store', both.store], { env });
    assert.match(told.stdout, /copies {4}1 other machine held all of it \(1 machine asked, /);
    assert.match(told.stdout, /copies {4}2 NARs \([\d.]+ kB\) only here: rare\S*, rare/);
    const gc = await lab.runPlain(['gc', '--store', both.store, '--dry-run'], { env });
    assert.match(gc.stdout, /2 NARs of them on no other machine/);
  });

  test('are counted of closures that are read from the Nix store, by either name of their NARs', async () => {
    await using lan = Lan.open();
    const nix = { NIX_REMOTE: `local?root=${await lab.folder('nix')}` };
    const imported = await machine(lan.host('imported'), [common], { nix });
    assert.deepEqual(await readdir(join(imported.store, 'nar')), []);
    const files = await machine(lan.host('files'), [common]);
    for (const user of [imported, files]) {
      let found = await counted('common', user);
      while (found?.roots[0]?.holders !== 1) {
        await sleep(500);
        found = await counted('common', user);
      }
      assert.deepEqual(found.roots, [{ ...found.roots[0], path: common.root, sole: [] }]);
    }
  });

  test('decide which NARs a mirror under a budget takes: those that the fewest machines hold', async () => {
    await using lan = Lan.open();
    const both = await lab.folder('both');
    const filter = (path: string): boolean => !path.endsWith('/narswarm');
    for (const { cacheDir } of [common, rare])
      await cp(cacheDir, both, { recursive: true, preserveTimestamps: true, filter });
    const publisher = lan.host('publisher');
    const roots = ['--root', `common=${common.root}`, '--root', `rare=${rare.root}`];
    const keys = [common, rare].flatMap(({ publicKey }) => ['--trusted-public-key', publicKey]);
    const args = ['publish', '--store', both, ...roots, ...keys, '--key', lab.path('key'), '--no-dht'];
    const { ready } = await lab.service(args, { wrapper: publisher.wrapper });
    await machine(lan.host('other'), [common]);
    const mirror = lan.host('mirror');
    const config = lab.path('mirror.toml');
    const env = { NARSWARM_CONFIG: config };
    await writeFile(config, '');
    const store = await lab.folder('store');
    const follows = ['--publisher', String(ready['mirror']), '--no-upstream', '--no-dht'];
    const budget = ['--max-size', '40kB']; // for either of the roots
    const { process: daemon } = await lab.service(['daemon', '--store', store, ...follows, ...budget, ...trust()], {
      env,
      wrapper: mirror.wrapper,
    });
    const asked = async (): Promise<number> => {
      const text = await readFile(join(store, 'narswarm/replicas.json'), 'utf8').catch(() => '{}');
      return (JSON.parse(text) as { machines?: number }).machines ?? 0;
    };
    while ((await asked()) < 2) await sleep(500); // both others are found
    const added = await lab.run(['subscribe', 'mirror', String(ready['mirror'])], { env });
    assert.equal(added.status, 0, added.stderr);
    await daemon.event('subscription', ({ outcome }) => outcome === 'complete');
    const held = await readNarInfos(store);
    assert.ok(held.has(rare.root.slice('/nix/store/'.length, 43)));
    assert.ok(!held.has(common.root.slice('/nix/store/'.length, 43)));
  });
});
