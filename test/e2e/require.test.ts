/** Several publishers that must have built a path with the same result (`require`). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { BuildDifference } from '../../src/index/quorum.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, assertSound, Lab, type Run, type RunningPublisher } from '../support/lab.ts';
import { Machine } from '../support/update-lab.ts';
import { WrittenCache, type WrittenPath } from '../support/written-cache.ts';

describe('publishers that must agree', { concurrency: 2 }, () => {
  let lab: Lab;
  let honest: WrittenCache;
  let root: WrittenPath;
  let dep: WrittenPath;
  let urls: { readonly honest: string; readonly stolen: string };
  /** Two builders with the same result, and one whose key signs another one. */
  let first: RunningPublisher;
  let second: RunningPublisher;
  let stolen: RunningPublisher;

  before(async () => {
    lab = await Lab.open();
    honest = await WrittenCache.create(await lab.folder('honest'), 'lab-1');
    const other = await WrittenCache.create(await lab.folder('stolen'), honest);
    dep = await honest.add('dep');
    await other.add('dep');
    root = await honest.add('root', { references: [dep.baseName], contents: 'as built' });
    await other.add('root', { references: [dep.baseName], contents: 'as built by a thief' });
    const publisher = (cacheDir: string): Promise<RunningPublisher> =>
      lab.publisher({ cacheDir, root: root.info.storePath, publicKey: honest.publicKey }, ALONE);
    const copy = await lab.folder('copy');
    await cp(honest.dir, copy, { recursive: true }); // a store has one hash map
    [first, second, stolen] = await Promise.all([publisher(honest.dir), publisher(copy), publisher(other.dir)]);

    const [honestCache, stolenCache] = await Promise.all([startHttpCache(honest.dir), startHttpCache(other.dir)]);
    urls = { honest: lab.use(honestCache).url, stolen: lab.use(stolenCache).url };
  });
  after(() => lab[Symbol.asyncDispose]());

  const flags = (publishers: readonly RunningPublisher[], caches: readonly string[]): string[] => [
    ...publishers.flatMap(({ mirror }) => ['--publisher', mirror]),
    ...caches.flatMap((url) => ['--from', url]),
    '--trusted-public-key',
    honest.publicKey,
    '--require',
    '2',
    ...ALONE,
  ];
  const fetch = (store: string, args: readonly string[]): Promise<Run> =>
    lab.run(['fetch', root.info.storePath, '--store', store, '--no-copy', ...args]);
  const heldRoot = async (store: string): Promise<Buffer> => readFile(join(store, root.info.url));

  test('a path comes if two publishers built the same, whichever cache is asked first', async () => {
    const store = await lab.folder('store');
    const run = await fetch(store, flags([first, second], [urls.stolen, urls.honest]));
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(await heldRoot(store), root.file);
    await assertSound(store, honest.publicKey);
  });

  test('a path that they built differently is refused, and the results are named', async () => {
    const store = await lab.folder('store');
    const run = await fetch(store, flags([first, stolen], [urls.stolen, urls.honest]));
    assertFailure(run, 4, 'QUORUM_MISSED', /root: 1 of 2 publishers built it as sha256:.* built it as sha256:/);
    assert.deepEqual(await readdir(store).then((names) => names.filter((name) => name.endsWith('.narinfo'))), []);
  });

  test('a right signature is not enough', async () => {
    const run = await fetch(await lab.folder('store'), flags([first], [urls.honest]));
    assertFailure(run, 4, 'QUORUM_MISSED', /--require asks for 2 publishers .* only 1 is named: name more with/);
    const none = await fetch(await lab.folder('store'), flags([], [urls.honest]));
    assertFailure(none, 4, 'QUORUM_MISSED', /--require asks for 2 publishers .* none is named: name them with/);
  });

  test('a publisher that is named twice, or by two addresses, counts once', async () => {
    const byDht = { ...first, mirror: first.address };
    for (const other of [first, byDht]) {
      const run = await fetch(await lab.folder('store'), flags([first, other], [urls.honest]));
      assertFailure(run, 4, 'QUORUM_MISSED', /only 1 is named/);
    }
  });

  test('Nix gets from the daemon only what they agree about', async () => {
    const ask = async (publishers: readonly RunningPublisher[]): Promise<number[]> => {
      const args = ['--store', await lab.folder('store'), ...flags(publishers, [urls.honest])];
      const { ready } = await lab.service(['daemon', '--port', '0', '--substituter-port', '0', ...args]);
      const [url = ''] = ready['substituters'] as string[];
      const names = [root, dep].map(({ baseName }) => `${baseName.slice(0, 32)}.narinfo`);
      return Promise.all(names.map(async (name) => (await globalThis.fetch(`${url}/${name}`)).status));
    };
    assert.deepEqual(await ask([first, second]), [200, 200]);
    assert.deepEqual(await ask([first, stolen]), [404, 200]);
  });

  test('two of three are enough, and status names the third', async () => {
    const args = flags([first, second, stolen], [urls.honest]);
    const machine = await Machine.of(lab, { desktop: { source: root.info.storePath } }, args);
    const run = await machine.update();
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.deepEqual(await heldRoot(machine.store), root.file);
    const status = await lab.runPlain(['status', '--store', machine.store], {
      env: { NARSWARM_CONFIG: machine.config },
    });
    assert.match(status.stdout, /-root was built differently by .* and .* \(sha256:.*\) and by .* \(sha256:/);
  });

  describe('that built differently', () => {
    /** A builder with a key of its own, which nobody else trusts. */
    let rebuilder: RunningPublisher;

    before(async () => {
      const cache = await WrittenCache.create(await lab.folder('rebuilt'), 'rebuilder-1');
      const again = await cache.add('dep');
      const { storePath } = (await cache.add('root', { references: [again.baseName], contents: 'as rebuilt' })).info;
      rebuilder = await lab.publisher({ cacheDir: cache.dir, root: storePath, publicKey: cache.publicKey }, ALONE);
    });

    const keptIn = async (store: string): Promise<string[]> =>
      readdir(join(store, 'narswarm/different')).catch(() => []);
    const updated = async (...args: readonly string[]): Promise<{ machine: Machine; run: Run }> => {
      const all = flags([first, second, rebuilder], [urls.honest]);
      const machine = await Machine.of(lab, { desktop: { source: root.info.storePath } }, all);
      return { machine, run: await machine.update(args) };
    };

    test('are compared by their NARs, which are kept apart', async () => {
      const { machine, run } = await updated('--keep-different', '1MB');
      assert.equal(run.status, 0, run.stdout + run.stderr);
      assert.deepEqual(await heldRoot(machine.store), root.file);
      const { differences } = (await machine.statusOf('desktop')) as unknown as { differences: BuildDifference[] };
      const nars = differences.flatMap(({ builds }) => builds.map(({ nar = '' }) => nar));
      assert.equal(nars.length, 2);
      for (const [index, contents] of ['as built', 'as rebuilt'].entries())
        assert.ok((await readFile(nars[index]!, 'latin1')).includes(contents));
      assert.deepEqual((await readdir(join(machine.store, 'nar'))).length, 2); // root and dep
      await assertSound(machine.store, honest.publicKey);

      const shown = await lab.runPlain(['status', '--store', machine.store], {
        env: { NARSWARM_CONFIG: machine.config },
      });
      const [, command = ''] = /^ {2}compare {3}(.+)$/m.exec(shown.stdout) ?? [];
      const bin = await lab.folder('bin');
      await writeFile(join(bin, 'diffoscope'), '#!/bin/sh\nexec diff "$@"\n', { mode: 0o755 });
      const env = { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` };
      const { stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8', env });
      assert.match(stdout, /^< as built\n.*\n*---\n> as rebuilt/m, stderr);

      const whole = await readFile(nars[0]!);
      await truncate(nars[0]!, 10);
      const again = await machine.update(['--keep-different', '1MB']);
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual((await keptIn(machine.store)).length, 2);
      assert.deepEqual(await readFile(nars[0]!), whole, 'a damaged NAR is fetched again');
    });

    test('are not kept unless that is asked for', async () => {
      const { machine, run } = await updated();
      assert.equal(run.status, 0, run.stderr);
      assert.deepEqual(await keptIn(machine.store), []);
    });

    test('are not compared without --require, which an update says', async () => {
      const machine = await Machine.of(lab, { desktop: { source: root.info.storePath } }, [
        '--no-lan',
        '--no-dht',
        '--no-upstream',
      ]);
      const { stdout } = await machine.update(['--keep-different', '1MB']);
      assert.match(stdout, /keep-different has nothing to compare: builds are compared with --require 2/);
    });

    test('are kept up to the limit', async () => {
      const { machine, run } = await updated(
        '--keep-different',
        `${Math.max(root.file.length, root.info.narSize) + 10}B`,
      );
      assert.equal(run.status, 0, run.stderr);
      assert.equal((await keptIn(machine.store)).length, 1);
      assert.match(run.stdout, /a build of \S+-root is not kept for a comparison: .* left of keep-different/);
    });
  });
});
