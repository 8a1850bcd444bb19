/** Caches that announce themselves on the local network are used without configuration, and can do no harm. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn, type HostCache } from '../support/cache-process.ts';
import { assertFailure, assertSound, Lab, type Run } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { announceCache } from '../support/zeroconf-service.ts';

suite('caches that announce themselves', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let total: number;

  before(async () => {
    ({ lab, made, total } = await openLanLab([600_000, 20_000, 5_000]));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Fetches without a configured cache on the network. */
  async function fetchIn(host: Host, ...args: readonly string[]): Promise<Run & { store: string }> {
    const store = await lab.folder('store');
    const into = ['--store', store, '--trusted-public-key', made.publicKey, '--no-copy'];
    const run = await lab.run(['fetch', made.root, ...into, ...args], { wrapper: host.wrapper });
    return Object.assign(run, { store });
  }

  const sourcesOf = (run: Run): unknown => {
    assert.equal(run.status, 0, run.stderr);
    return run.event('done')['sources'];
  };

  /** A host with a cache that announces itself; its name is that of the announcement. */
  async function cacheHost(
    lan: Lan,
    stack: AsyncDisposableStack,
    name = 'nas',
  ): Promise<{ host: Host; cache: HostCache }> {
    const host = lan.host(name);
    const cache = stack.use(await startCacheOn(host, made.cacheDir));
    stack.use(await announceCache(host.wrapper, { name, port: cache.port, addresses: [host.ipv4] }));
    return { host, cache };
  }

  test('an announced cache gives everything if it is the only source', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const { cache } = await cacheHost(lan, stack);
    const run = await fetchIn(lan.host('client'), '--config', lab.configFile, '--from', 'http://192.0.2.1');
    assert.deepEqual(sourcesOf(run), [{ source: cache.url, kind: 'upstream', bytes: total }]);
    await assertSound(run.store, made.publicKey);
  });

  for (const [what, udp, isFound] of [
    ['lets in UDP 5353', [5353], true],
    ['does not', [], false],
  ] as const) {
    test(`an announced cache behind a firewall that ${what} is ${isFound ? 'used' : 'not found'}`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open());
      const { cache } = await cacheHost(lan, stack);
      const run = await fetchIn(lan.host('client', { firewall: { udp } }), '--from', 'http://192.0.2.1');
      if (isFound) assert.deepEqual(sourcesOf(run), [{ source: cache.url, kind: 'upstream', bytes: total }]);
      else assert.notEqual(run.status, 0);
    });
  }

  test('an announced cache is used over IPv6 alone', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const host = lan.host('nas6', { addresses: 'ula' });
    const cache = stack.use(await startCacheOn(host, made.cacheDir));
    stack.use(await announceCache(host.wrapper, { name: 'nas6', port: cache.port, addresses: [host.ula] }));
    const run = await fetchIn(lan.host('client6', { addresses: 'ula' }), '--from', 'http://[2001:db8::1]');
    assert.equal(cache.url, `http://[${host.ula}]:${cache.port}`);
    assert.deepEqual(sourcesOf(run), [{ source: cache.url, kind: 'upstream', bytes: total }]);
  });

  for (const off of [['--no-lan'], ['--scope', 'off'], ['--no-upstream', '--peer-timeout', '1s']]) {
    test(`${off.join(' ')}: an announced cache is not asked`, async () => {
      await using stack = new AsyncDisposableStack();
      const lan = stack.use(Lan.open());
      const { cache } = await cacheHost(lan, stack);
      const from = off[0] === '--no-upstream' ? [] : ['--from', `file://${await lab.folder('empty')}`];
      assertFailure(await fetchIn(lan.host('client'), ...from, ...off), 3, 'NARINFO_MISSING', /has a narinfo for/);
      assert.deepEqual(await cache.requests(), []);
    });
  }

  test('announced caches that lie, are no caches or are gone cost the fetch nothing', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const liar = await cacheHost(lan, stack, 'liar');
    await liar.cache.setFaults([{ match: /\.narinfo$|^\/nar\//, kind: 'status', status: 500 }]);
    const gone = lan.host('gone');
    stack.use(await announceCache(gone.wrapper, { name: 'gone', port: 5000, addresses: [gone.ipv4] }));
    const other = lan.host('other');
    const empty = stack.use(await startCacheOn(other, await lab.folder('none')));
    stack.use(await announceCache(other.wrapper, { name: 'other', port: empty.port, addresses: [other.ipv4] }));
    const cache = stack.use(await startCacheOn(lan.host('honest'), made.cacheDir));
    const run = await fetchIn(lan.host('client'), '--from', cache.url);
    assert.deepEqual(sourcesOf(run), [{ source: cache.url, kind: 'upstream', bytes: total }]);
    assert.equal(run.stderr, '');
  });
});
