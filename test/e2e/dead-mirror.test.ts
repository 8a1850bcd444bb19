/** A publisher that is named by its HTTP mirror, which is dead or misbehaves: a peer holds the newest hash map. */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type Fault, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, mirrorOf } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';
import { serve } from '../support/odd-server.ts';

suite('a dead mirror', { concurrency: 4 }, () => {
  let lab: Lab;
  let mirror: HttpCache;
  /** Files of the mirror. */
  let dir: string;
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
    dir = await lab.folder('mirror');
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

  /** Returns the address of the publisher at another mirror. */
  function mirrorAt(url: string): string {
    return address.replace(mirror.url, url);
  }

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

  for (const file of ['manifest', 'shards']) {
    const faults: Record<string, Fault> = {
      'accepts a request and says nothing': { kind: 'stall-headers' },
      'sends headers and stalls': { kind: 'stall' },
      trickles: { kind: 'slow', rateBytesPerSec: 1 },
      'redirects in a circle': { kind: 'redirect', location: `/${file}` },
      'cuts its answer': { kind: 'cut', afterBytes: 10 },
      'sends other bytes': { kind: 'corrupt', afterBytes: 50 },
    };
    for (const [what, fault] of Object.entries(faults)) {
      test(`a peer gives the ${file} of a mirror that ${what}`, async () => {
        await using faulty = await startHttpCache(dir);
        faulty.faults = [{ ...fault, match: new RegExp(`^/${file}`) }];
        const store = await lab.folder('store');
        const flags = [
          '--publisher',
          mirrorAt(faulty.url),
          '--store',
          store,
          '--no-copy',
          '--no-upstream',
          '--peer',
          peer,
        ];
        const run = await lab.run(['fetch', 'lab', ...flags, ...common]);
        assert.equal(run.status, 0, run.stderr);
        const warnings = run.events.filter(({ event }) => event === 'warning').map(({ kind }) => kind);
        assert.deepEqual(warnings, file === 'manifest' ? ['member-map'] : []);
        const { narInfos } = await assertSound(store, newer.publicKey);
        assert.ok(narInfos.includes(newer.root.slice('/nix/store/'.length)));
      });
    }
  }

  for (const [what, spoil] of Object.entries({
    lacks: (shard: string) => rm(shard),
    'has damaged': (shard: string) => writeFile(shard, 'damaged'),
    'has an empty': (shard: string) => writeFile(shard, ''),
  })) {
    test(`a peer gives the shard that a kept edition ${what}`, async () => {
      const store = await lab.folder('store');
      const flags = ['--publisher', address, '--store', store, '--no-copy', '--no-upstream', '--peer', peer, ...common];
      const first = await lab.run(['fetch', 'lab', ...flags]);
      assert.equal(first.status, 0, first.stderr);
      const maps = join(store, 'narswarm/index');
      const [map = ''] = await readdir(maps);
      const shard = join(maps, map, 'shards/all.zst');
      const right = await readFile(shard);
      await spoil(shard);
      for (const name of await readdir(store))
        if (name.endsWith('.narinfo') || name === 'nar') await rm(join(store, name), { recursive: true });
      const second = await lab.run(['fetch', 'lab', ...flags]);
      assert.equal(second.status, 0, second.stderr);
      assert.equal(second.event('warning')['kind'], 'kept-map');
      assert.deepEqual(await readFile(shard), right);
      const { narInfos } = await assertSound(store, newer.publicKey);
      assert.ok(narInfos.includes(newer.root.slice('/nix/store/'.length)));
    });
  }

  test('a daemon gets the edition of a peer while the mirror accepts a request and says nothing', async () => {
    const news = new EventEmitter<{ request: [] }>();
    let waiting = 0;
    await using silent = await serve((_, response) => {
      waiting++;
      response.on('close', () => waiting--);
      news.emit('request');
    });
    const asked = once(news, 'request');
    const follower = await Machine.make(lab, { flags: [] });
    await follower.subscribe('mirror', mirrorAt(silent.url));
    const { process: daemon } = await follower.service(['daemon', '--no-upstream', '--peer', peer, ...common]);
    await asked;
    await daemon.event('followed');
    assert.ok(waiting > 0, 'the mirror is still asked');
    const { notes } = await daemon.event('subscription', ({ outcome }) => outcome === 'complete');
    assert.match(String(notes), /^no answer about .* in 10 s: /, 'its edition is here already');
    await daemon.stop();
  });
});
