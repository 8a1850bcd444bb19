/** Machines without internet, and neighbours that come late or restart: what counts is that somebody comes at all. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { assertSound, Lab, narBytesOf } from '../support/lab.ts';
import { bytesOf, DEAD_CACHE, fullUser, LanUser, startHolder } from '../support/lan-user.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan } from '../support/namespaces.ts';

/** Longer than a walk waits for neighbours that are there, and for a cache that fails. */
const LATE_MS = 5_000;
/** UDP 6771, as the system lists its sockets. */
const LAN_PORT = ':1A73 ';

suite('neighbours that come late or restart', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;

  before(async () => {
    ({ lab, made, total } = await openLanLab([2_500_000, 600_000, 60_000, 20_000, 5_000], 'cache.nixos.org'));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Waits until a machine listens to the multicast group, and then for longer than neighbours take to answer. */
  async function announced({ host }: LanUser): Promise<void> {
    while (!host.run('cat', '/proc/net/udp').includes(LAN_PORT)) await sleep(50);
    await sleep(LATE_MS);
  }

  for (const [what, cache] of [
    ['a cache’s key and no cache', ''],
    ['a cache that cannot be reached', DEAD_CACHE],
  ] as const)
    test(`a subscription with ${what} waits for a neighbour that appears later`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open());
      const holder = await fullUser(lab, lan.host('holder'), { made });
      await holder.daemon();
      holder.host.signal('SIGSTOP'); // a busy machine may start a daemon for longer than the client waits
      const client = await LanUser.of(lab, lan.host('client'), { made, cache });
      assert.equal((await client.run('subscribe', 'sys', made.root)).status, 0);
      const updating = client.start('update', '--store', client.store);
      await announced(client);
      holder.host.signal('SIGCONT');
      const run = await updating.end();
      assert.equal(run.status, 0, run.stderr);
      assert.deepEqual(run.event('subscription')['bytes'], { store: 0, peers: total, upstream: 0 });
      await assertSound(client.store, made.publicKey);
    });

  test('a subscription with a publisher’s key alone waits for the publisher, which appears later', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const holder = await fullUser(lab, lan.host('holder'), { made });
    const publish = ['publish', '--store', holder.store, '--root', `lab=${made.root}`, '--key', lab.path('key')];
    const published = await holder.run(...publish, '--once');
    assert.equal(published.status, 0, published.stderr);
    const address = String(published.event('published')['address']);
    await holder.start(...publish).event('ready');
    holder.host.signal('SIGSTOP');
    const client = await LanUser.of(lab, lan.host('client'), { made, cache: '' });
    assert.equal((await client.run('subscribe', 'sys', `${address}#lab`)).status, 0);
    const updating = client.start('update', '--store', client.store);
    await announced(client);
    holder.host.signal('SIGCONT');
    const run = await updating.end();
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('subscription')['bytes'], { store: 0, peers: total, upstream: 0 });
    await assertSound(client.store, made.publicKey);
  });

  test('NARs that a silent cache was asked for come from a late neighbour, even if nothing else is left', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const two = await lab.closure([60_000], 'cache.nixos.org');
    const cache = stack.use(await startCacheOn(lan.host('cache'), two.cacheDir));
    await cache.setFaults([{ kind: 'stall-headers', match: /\.nar\./ }]);
    const holder = await fullUser(lab, lan.host('holder'), { made: two });
    const client = await LanUser.of(lab, lan.host('client'), { made: two, cache: cache.url });
    const fetching = client.startFetch();
    while ((await cache.requests()).filter(({ url: asked }) => asked.includes('.nar.')).length < 2) await sleep(50);
    await holder.daemon();
    const run = await fetching.end();
    assert.equal(bytesOf(run).peers, await narBytesOf(two.cacheDir));
    assert.equal(run.stderr, ''); // nobody waited until the cache was given up
  });

  for (const [what, cache] of [
    ['without a cache', ''],
    ['with a cache that cannot be reached', DEAD_CACHE],
  ] as const)
    test(`${what}, a fetch outlives the restart of its only neighbour`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open());
      const host = lan.host('holder', { upKbit: 4_000 });
      const { user: holder, daemon } = await startHolder(lab, host, { made });
      const client = await LanUser.of(lab, lan.host('client'), { made, cache });
      const sentBefore = host.sentBytes();
      const fetching = client.startFetch();
      while (host.sentBytes() - sentBefore < 0.3 * total) await sleep(50);
      await daemon.stop('SIGKILL');
      await holder.daemon();
      const { peers, upstream } = bytesOf(await fetching.end());
      assert.equal(upstream, 0);
      assert.ok(peers >= total && peers < 1.7 * total, `${peers} bytes for ${total}`);
      await assertSound(client.store, made.publicKey);
    });
});
