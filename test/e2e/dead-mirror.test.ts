/** A publisher that is named by its HTTP mirror, whose mirror is dead: a peer holds the newest hash map. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

suite('a dead mirror', () => {
  let lab: Lab;
  let mirror: HttpCache;
  let newer: MadeClosure;
  /** Trusts what is published, and stays on loopback. */
  let common: readonly string[];
  /** Address of the publisher at its mirror. */
  let address: string;
  /** A daemon that holds the newer edition and its NARs. */
  let peer: string;
  /** A machine that knows the older edition only. */
  let behind: Machine;

  before(async () => {
    lab = await Lab.open();
    const older = await lab.closure([20_000, 10_000]);
    newer = await lab.closure([30_000], 'newer');
    const store = await lab.folder('both');
    for (const { cacheDir } of [older, newer]) await cp(cacheDir, store, { recursive: true, preserveTimestamps: true });
    const keys = [older, newer].flatMap(({ publicKey }) => ['--trusted-public-key', publicKey]);
    common = [...keys, ...ALONE];
    const key = ['--key', lab.path('key')];
    const dir = await lab.folder('mirror');
    mirror = lab.use(await startHttpCache(dir));
    const publish = async ({ root }: MadeClosure): Promise<void> => {
      const run = await lab.run(['publish', '--once', '--store', store, '--root', `lab=${root}`, ...keys, ...key]);
      assert.equal(run.status, 0, run.stderr);
      const published = run.event('published');
      await cp(String(published['dir']), dir, { recursive: true });
      address = mirrorOf(String(published['address']), mirror.url);
    };
    await publish(older);
    const cache = lab.use(await startHttpCache(store));
    behind = await Machine.make(lab, { flags: [] });
    await behind.subscribe('desktop', `${address}#lab`);
    const first = await behind.run(['update', '--from', cache.url, ...common]);
    assert.equal(first.status, 0, first.stderr);
    await publish(newer);
    const server = await Machine.make(lab, { flags: [] });
    await server.subscribe('mirror', address);
    const { process: daemon, ready } = await server.service(['daemon', '--from', cache.url, ...common]);
    await daemon.event('subscription', ({ outcome }) => outcome === 'complete');
    peer = `127.0.0.1:${String(ready['port'])}`;
    await mirror.stop();
    await cache.stop();
  });
  after(() => lab[Symbol.asyncDispose]());

  test('a subscription gets the newer edition of a peer, and says why', async () => {
    const run = await behind.run(['update', '--no-upstream', '--peer', peer, ...common]);
    assert.equal(run.status, 0, run.stderr);
    const { outcome, generation, notes } = run.event('subscription');
    assert.deepEqual([outcome, generation], ['complete', 2]);
    assert.match(String(notes), /^no hash map from its mirror: .* is used, which a peer holds$/);
    const warning = run.event('warning');
    assert.equal(warning['kind'], 'member-map');
    assert.match(
      String(warning['message']),
      /^no hash map from its mirror: .*; using the edition of \S+, which a peer holds$/,
    );
    assert.equal((await behind.status('desktop'))['health'], 'complete');
  });

  test('a machine without any edition gets it from a peer', async () => {
    const store = await lab.folder('store');
    const what = ['--publisher', address, '--store', store, '--no-copy', '--no-upstream', '--peer', peer];
    const run = await lab.run(['fetch', 'lab', ...what, ...common]);
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.event('warning')['kind'], 'member-map');
    const { narInfos } = await assertSound(store, newer.publicKey);
    assert.ok(narInfos.includes(newer.root.slice('/nix/store/'.length)));
  });
});
