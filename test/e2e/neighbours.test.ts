/**
 * Machines on one network that have nothing in common but the key of a cache: no publisher, no configuration. Judged by who
 * has sent what.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { startCacheOn, type CacheProcess } from '../support/cache-process.ts';
import { assertSound, Lab, mirrorOf, narBytesOf, requisites, type Run } from '../support/lab.ts';
import { bytesOf, DEAD_CACHE, fullUser, LanUser, startHolder } from '../support/lan-user.ts';
import { wrongClock } from '../support/wrong-clock.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan, type Host, type HostOptions } from '../support/namespaces.ts';

/** Default ports to open in a firewall (README). */
const FIREWALL = { tcp: [16_277], udp: [6771] };

suite('neighbours without a publisher', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;

  before(async () => {
    ({ lab, made, total } = await openLanLab([2_500_000, 600_000, 60_000, 20_000, 5_000], 'cache.nixos.org'));
  });
  after(() => lab[Symbol.asyncDispose]());

  const userOf = (host: Host, cache: string, key?: string): Promise<LanUser> =>
    LanUser.of(lab, host, { made, cache, key });

  const holder = async (host: Host, key?: string): Promise<LanUser> =>
    (await startHolder(lab, host, { made, key })).user;

  /** Fails unless nearly everything came from neighbours: the cache may give the first requested files. */
  function assertFromNeighbours(bytes: { readonly peers: number; readonly upstream: number }): void {
    assert.equal(bytes.peers + bytes.upstream, total);
    assert.ok(bytes.peers >= 0.9 * total, JSON.stringify(bytes));
  }

  /** A cache with a slow line. */
  async function cacheOn(lan: Lan, stack: AsyncDisposableStack, options: HostOptions = {}): Promise<string> {
    return stack.use(await startCacheOn(lan.host('cache', { upKbit: 500, ...options }), made.cacheDir)).url;
  }

  /** Somebody who can fetch everything, and one who must ask a cache that never answers a request for a NAR. */
  async function besideSilentCache(stack: AsyncDisposableStack): Promise<{
    readonly holds: LanUser;
    readonly client: LanUser;
    readonly cache: CacheProcess;
    /** Resolves once the cache was asked for a NAR. */
    readonly isAsked: () => Promise<void>;
  }> {
    const lan = stack.use(Lan.open());
    const cache = stack.use(await startCacheOn(lan.host('cache'), made.cacheDir));
    await cache.setFaults([{ kind: 'stall-headers', match: /\.nar\./ }]);
    const holds = await userOf(lan.host('holder'), `file://${made.cacheDir}`);
    const client = await userOf(lan.host('client'), cache.url);
    const isAsked = async (): Promise<void> => {
      while (!(await cache.requests()).some(({ url }) => url.includes('.nar.'))) await sleep(50);
    };
    return { holds, client, cache, isAsked };
  }

  test('with subscribe and update on two machines, the second one gets everything from the first', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const host = lan.host('cache');
    await using cache = await startCacheOn(host, made.cacheDir);
    const [first, second] = await Promise.all(
      ['first', 'second'].map(async (name) => {
        const user = await userOf(lan.host(name, { firewall: FIREWALL }), cache.url);
        assert.equal((await user.run('subscribe', 'sys', made.root)).status, 0);
        return user;
      }),
    );
    assert.ok(first !== undefined && second !== undefined);
    const updated = async (user: LanUser): Promise<{ peers: number; upstream: number }> => {
      const run = await user.run('update', '--store', user.store);
      assert.equal(run.status, 0, run.stderr);
      await assertSound(user.store, made.publicKey);
      return run.event('subscription')['bytes'] as { peers: number; upstream: number };
    };
    assert.deepEqual(await updated(first), { store: 0, peers: 0, upstream: total });
    await first.daemon();
    host.setRate({ upKbit: 500 });
    assertFromNeighbours(await updated(second));
  });

  for (const [what, subnet, addresses] of [
    ['with public addresses', '130.92.1', 'v4'],
    ['over IPv6 alone', '10.77.0', 'ula'],
  ] as const) {
    test(`${what}, everything comes from the neighbour`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open({ subnet }));
      const url = await cacheOn(lan, stack, { addresses });
      await holder(lan.host('holder', { addresses }));
      const client = await userOf(lan.host('client', { addresses }), url);
      assertFromNeighbours(bytesOf(await client.fetch()));
    });
  }

  test('over link-local addresses alone, everything comes from the neighbour', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    await holder(lan.host('holder', { addresses: 'link-local' }));
    const client = await userOf(lan.host('client', { addresses: 'link-local' }), DEAD_CACHE);
    assert.equal(bytesOf(await client.fetch()).peers, total);
  });

  test('between machines whose clocks are wrong by years, everything comes from the neighbour', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    await startHolder(lab, lan.host('past'), { made, env: wrongClock({ days: -800 }) });
    const client = await LanUser.of(lab, lan.host('future'), {
      made,
      cache: DEAD_CACHE,
      env: wrongClock({ days: 800 }),
    });
    assert.equal(bytesOf(await client.fetch()).peers, total);
  });

  test('with every cache down, a closure that two neighbours hold between them is walked, fetched and imported', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    for (const [index, name] of ['even', 'odd'].entries()) {
      const user = await fullUser(lab, lan.host(name), { made });
      const narInfos = (await readdir(user.store)).filter((file) => file.endsWith('.narinfo')).toSorted();
      for (const file of narInfos.filter((_, at) => at % 2 === index)) {
        const { url } = parseNarInfo(await readFile(join(user.store, file), 'utf8'));
        await rm(join(user.store, file));
        await rm(join(user.store, url));
      }
      await user.daemon();
    }
    const client = await userOf(lan.host('client'), DEAD_CACHE);
    const to = `local?root=${await lab.folder('root')}`;
    const run = await client.run('fetch', made.root, '--store', client.store, '--to', to);
    assert.equal(bytesOf(run).peers, total);
    assert.equal(run.event('done')['imported'], true);
    assert.equal(requisites(to, made.root).length, 10);
  });

  test('what a silent cache was asked for comes from a neighbour that is found later', async () => {
    await using stack = new AsyncDisposableStack();
    const { holds, client, isAsked } = await besideSilentCache(stack);
    assert.equal((await holds.fetch('--no-lan')).status, 0);
    const fetching = client.startFetch();
    await isAsked();
    await holds.daemon();
    const run = await fetching.end();
    assert.deepEqual(bytesOf(run), { total, store: 0, peers: total, upstream: 0 });
    assert.equal(run.stderr, ''); // nobody waited until the cache was given up
  });

  test('with a cache that is gone, a fetch waits for a neighbour that has nothing yet', async () => {
    await using stack = new AsyncDisposableStack();
    const { holds, client, cache, isAsked } = await besideSilentCache(stack);
    await holds.daemon();
    const fetching = client.startFetch();
    await fetching.event('plan'); // the narinfos are here
    await isAsked();
    await cache.stop();
    await fetching.event('warning', ({ kind }) => kind === 'peers-again');
    assert.equal((await holds.fetch('--no-lan')).status, 0); // the daemon gives it from now on
    const { peers, upstream } = bytesOf(await fetching.end());
    assert.deepEqual([peers, upstream], [total, 0]);
  });

  test('with a cache that is gone and nobody else, a fetch does not try each NAR in turn', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const many = await lab.closure(
      Array.from({ length: 40 }, () => 1_000),
      'cache.nixos.org',
    );
    const cache = stack.use(await startCacheOn(lan.host('cache'), many.cacheDir));
    await cache.setFaults([{ kind: 'stall-headers', match: /\.nar\./ }]);
    const client = await LanUser.of(lab, lan.host('client'), { made: many, cache: cache.url });
    const fetching = client.startFetch('--peer-timeout', '1s');
    await fetching.event('plan');
    while (!(await cache.requests()).some(({ url }) => url.includes('.nar.'))) await sleep(50);
    await cache.stop();
    const run = await fetching.end();
    assert.equal(run.status, 5, run.stderr);
    const tried = run.events.filter(({ kind }) => kind === 'peers-again').length;
    assert.ok(tried > 0 && tried < 40, `${tried} of 80 NARs were tried`);
  });

  test('a machine’s own limit does not make it turn to the cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const large = await lab.closure([6_000_000, 4_000_000, 2_000_000], 'cache.nixos.org');
    await using cache = await startCacheOn(lan.host('cache', { upKbit: 100_000 }), large.cacheDir);
    const holds = await fullUser(lab, lan.host('holder'), { made: large });
    await holds.daemon();
    const client = await LanUser.of(lab, lan.host('client'), { made: large, cache: cache.url });
    const limited = ['--max-download-rate', '2MB/s', '--peer', `${holds.host.ipv4}:16277`];
    const bytes = bytesOf(await client.fetch(...limited));
    assert.ok(bytes.peers > 0.8 * (await narBytesOf(large.cacheDir)), JSON.stringify(bytes));
  });

  test('of two users on one machine both give, and one takes from the other', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const host = lan.host('shared', { firewall: { ...FIREWALL, tcp: [16_277, 16_278] } });
    const { daemon } = await startHolder(lab, host, { made });
    const second = await userOf(host, DEAD_CACHE);
    assert.equal(bytesOf(await second.fetch()).peers, total);
    await second.daemon();
    const atBoth = await userOf(lan.host('client', { firewall: FIREWALL }), DEAD_CACHE);
    // A range may come from both, if one of them is slow to begin with.
    const { peers, upstream } = bytesOf(await atBoth.fetch());
    assert.ok(peers >= total && peers <= 2 * total, `${peers} of ${total} bytes`);
    assert.equal(upstream, 0);
    assert.equal((await daemon.stop()).status, 0);
    const atSecond = await userOf(lan.host('another', { firewall: FIREWALL }), DEAD_CACHE);
    assert.equal(bytesOf(await atSecond.fetch()).peers, total);
  });

  test('if multicast is blocked, everything comes from the cache', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const url = await cacheOn(lan, stack, { upKbit: 100_000 });
    const blocked = `table inet blocked {
      chain out {
        type filter hook output priority filter; policy accept;
        ip daddr 224.0.0.0/4 drop
        ip6 daddr ff00::/8 udp dport { 5353, 6771 } drop
      }
    }`;
    const host = lan.host('holder');
    host.nft(blocked);
    await holder(host);
    const other = lan.host('client');
    other.nft(blocked);
    const client = await userOf(other, url);
    const run = await client.fetch();
    assert.deepEqual(bytesOf(run), { total, store: 0, peers: 0, upstream: total });
    assert.equal(run.stderr, '');
  });

  test('a laptop that changes networks gives and takes in the new one', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    await holder(lan.host('home'));
    const laptop = await userOf(lan.host('laptop'), DEAD_CACHE);
    assert.equal(bytesOf(await laptop.fetch()).peers, total);
    await laptop.daemon();
    laptop.host.ip('address flush dev eth0', 'address add 192.168.9.2/24 dev eth0');
    const office = lan.host('office', { addresses: 'none' });
    office.ip('address add 192.168.9.3/24 dev eth0');
    const colleague = await userOf(office, DEAD_CACHE);
    assert.equal(bytesOf(await colleague.fetch('--peer-timeout', '30s')).peers, total);
  });

  test('a fetch goes on with the neighbours of the network to which its laptop moves meanwhile', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const home = lan.host('home', { upKbit: 2_000 });
    await holder(home);
    const office = lan.host('office', { addresses: 'none' });
    office.ip('address add 192.168.9.3/24 dev eth0');
    await holder(office);
    const laptop = await userOf(lan.host('laptop'), '');
    const sentBefore = home.sentBytes();
    const fetching = laptop.startFetch();
    while (home.sentBytes() - sentBefore < 0.3 * total) await sleep(50);
    laptop.host.ip('address flush dev eth0', 'address add 192.168.9.2/24 dev eth0');
    const run = await fetching.end();
    assert.ok(bytesOf(run).peers >= total);
    const sources = run.event('done')['sources'] as readonly { readonly source: string; readonly bytes: number }[];
    const bytesFrom = (host: Host, address = host.ipv4): number =>
      sources.filter(({ source }) => source.startsWith(address)).reduce((sum, { bytes }) => sum + bytes, 0);
    assert.ok(bytesFrom(home) > 0, JSON.stringify(sources));
    assert.ok(bytesFrom(office, '192.168.9.3') > 0, JSON.stringify(sources));
    await assertSound(laptop.store, made.publicKey);
  });

  test('NARs of a key that is only trusted are not shared until the key is named', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const company = await lab.closure([5_000], 'company');
    const inHouse = (name: string): Promise<LanUser> => fullUser(lab, lan.host(name), { made: company });
    await (await inHouse('silent')).daemon();
    const asking = async (name: string): Promise<Run> => {
      const client = await LanUser.of(lab, lan.host(name), { made: company, cache: DEAD_CACHE });
      return client.fetch('--share-keys', 'company-1');
    };
    assert.notEqual((await asking('before')).status, 0);
    await (await inHouse('sharing')).daemon('--share-keys', 'company-1');
    const run = await asking('after');
    assert.equal(bytesOf(run).peers, await narBytesOf(company.cacheDir));
  });

  test('NARs that only a hash map lists are no longer shared once its subscription is removed', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const company = await lab.closure([5_000], 'company');
    const what = ['--store', company.cacheDir, '--root', `lab=${company.root}`, '--key', lab.path('key')];
    const published = await lab.run(['publish', '--once', ...what, '--trusted-public-key', company.publicKey]);
    const { address, dir } = published.event('published') as unknown as { address: string; dir: string };
    const mirror = stack.use(await startCacheOn(lan.host('site'), dir));
    const holds = await LanUser.of(lab, lan.host('holder'), { made: company, cache: `file://${company.cacheDir}` });
    const source = mirrorOf(address, mirror.url);
    assert.equal((await holds.run('subscribe', 'company', source)).status, 0);
    const daemon = await holds.daemon('--no-dht');
    await daemon.event('subscription', ({ outcome }) => outcome === 'complete');
    const asking = async (name: string): Promise<Run> => {
      const client = await LanUser.of(lab, lan.host(name), { made: company, cache: DEAD_CACHE });
      return client.fetch(
        '--share-keys',
        'company-1',
        '--peer',
        `${holds.host.ipv4}:16277`,
        '--publisher',
        source,
        '--no-dht',
      );
    };
    assert.equal(bytesOf(await asking('before')).peers, await narBytesOf(company.cacheDir));
    assert.equal((await holds.run('unsubscribe', 'company')).status, 0);
    for (let number = 0; (await asking(`after-${number}`)).status === 0; number++)
      assert.ok(number < 10, 'it is still given');
  });
});
