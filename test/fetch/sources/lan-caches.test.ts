/** Caches found on the network: real mDNS packets on loopback, a real cache that can misbehave. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { suite, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encode } from 'dns-packet';
import { CACHE_SERVICE, MDNS_GROUPS } from '../../../src/discovery/cache-services.ts';
import { LanCaches } from '../../../src/fetch/sources/lan-caches.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { parseStoreHash } from '../../../src/nix/store-path.ts';
import { CACHE_DIR, LEAF } from '../../nix/fixtures.ts';
import { KEY } from '../../store/store-fixture.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { networksOf } from '../../support/made-networks.ts';

const { signal } = new AbortController();
const hash = parseStoreHash(LEAF);
let nextPort = 20_000 + (process.pid % 20_000);

/** Announces a cache on loopback again and again. */
function announce(t: TestContext, port: number, at: number): void {
  const instance = `made ${at}.${CACHE_SERVICE}`;
  const packet = encode({
    type: 'response',
    answers: [
      { name: CACHE_SERVICE, type: 'PTR', ttl: 60, data: instance },
      { name: instance, type: 'SRV', ttl: 60, data: { target: 'made.local', port: at } },
      { name: 'made.local', type: 'A', ttl: 60, data: '127.0.0.1' },
    ],
  });
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1', () => socket.setMulticastInterface('127.0.0.1'));
  const timer = setInterval(() => socket.send(packet, port, MDNS_GROUPS.ipv4), 20);
  t.after(() => {
    clearInterval(timer);
    socket.close();
  });
}

interface Scene {
  readonly cache: HttpCache;
  readonly caches: LanCaches;
  /** The UDP port of the announcements. */
  readonly port: number;
}

async function scene(
  t: TestContext,
  options: { keys?: []; storeDir?: string; configured?: (url: string) => string; isBroken?: boolean } = {},
): Promise<Scene> {
  const { keys = [KEY], storeDir = '/nix/store', configured } = options;
  const cache = await startHttpCache(CACHE_DIR);
  if (options.isBroken === true) cache.faults = [{ kind: 'status', status: 500 }];
  const http = new HttpClient();
  const port = nextPort++;
  const caches = LanCaches.start({
    http,
    storeDir,
    keys,
    configured: configured === undefined ? [] : [parseUpstream(configured(cache.url))],
    networks: networksOf('192.168.7.20/24'), // so that loopback counts as a neighbour
    interfaceAddress: '127.0.0.1',
    ...(options.isBroken === true ? { probeAgainMs: 200 } : {}),
    port,
  });
  announce(t, port, Number(new URL(cache.url).port));
  t.after(async () => {
    await caches[Symbol.asyncDispose]();
    await http.close();
    await cache.stop();
  });
  return { cache, caches, port };
}

const untilFound = async (caches: LanCaches): Promise<void> => {
  while (caches.sources.length === 0) await sleep(10);
};

suite('caches found on the network', { timeout: 180_000 }, () => {
  test('an announced cache gives narinfos and NARs', async (t) => {
    const startedAtMs = performance.now();
    const { cache, caches } = await scene(t);
    assert.equal(caches.sources.length, 0, 'nothing waits for it');
    let awaited = await caches.awaited.find(hash, signal);
    assert.ok(performance.now() - startedAtMs > 690, 'caches have time to answer');
    for (; awaited === undefined; awaited = await caches.awaited.find(hash, signal)) {
      t.signal.throwIfAborted();
      await sleep(10); // a busy machine takes longer
    }
    assert.equal(awaited?.storePath.includes(LEAF), true);
    assert.deepEqual(
      caches.upstreams.map(({ url }) => url),
      [cache.url],
    );
    assert.equal((await caches.sources[0]?.find(hash, signal))?.storePath, awaited?.storePath);
  });

  test('paths without a trusted signature count as absent, not as failures', async (t) => {
    const { caches } = await scene(t, { keys: [] });
    await untilFound(caches);
    for (let index = 0; index < 4; index++) assert.equal(await caches.sources[0]?.find(hash, signal), undefined);
    assert.equal(caches.sources.length, 1);
  });

  test('failures are silent, and after two the cache is left alone', async (t) => {
    const { cache, caches } = await scene(t);
    await untilFound(caches);
    cache.faults = [{ kind: 'status', status: 500 }];
    const [source] = caches.sources;
    for (let index = 0; index < 2; index++) assert.equal(await source?.find(hash, signal), undefined);
    assert.deepEqual([caches.sources, caches.upstreams], [[], []]);
    const asked = cache.requests.length;
    assert.equal(await source?.find(hash, signal), undefined);
    assert.equal(cache.requests.length, asked);
  });

  for (const [what, fault] of [
    ['is silent about narinfos', { kind: 'stall-headers' }],
    ['sends them byte by byte', { kind: 'slow', rateBytesPerSec: 1 }],
  ] as const)
    test(`a cache that ${what} holds no path up, and is soon asked for NARs alone`, async (t) => {
      const { cache, caches } = await scene(t);
      await untilFound(caches);
      cache.faults = [fault];
      const [source] = caches.sources;
      assert.equal(await source?.find(hash, signal), undefined);
      cache.faults = [];
      assert.ok(await source?.find(hash, signal), 'once may be an accident');
      cache.faults = [fault];
      assert.equal(await source?.find(hash, signal), undefined);
      const asked = cache.requests.length;
      assert.equal(await source?.find(hash, signal), undefined);
      assert.equal(await caches.awaited.find(hash, signal), undefined);
      assert.equal(cache.requests.length, asked);
      assert.deepEqual(caches.sources, []);
      assert.equal(caches.upstreams.length, 1);
    });

  test('a slow cache is waited for if no other source answers', async (t) => {
    const { cache, caches } = await scene(t);
    await untilFound(caches);
    cache.faults = [{ kind: 'slow', rateBytesPerSec: 300 }];
    assert.equal(await caches.sources[0]?.find(hash, signal), undefined);
    assert.equal((await caches.lasting.find(hash, signal))?.storePath.includes(LEAF), true);
  });

  test('several caches share the time that the next source waits for them', async (t) => {
    const { caches, port } = await scene(t);
    const other = await startHttpCache(CACHE_DIR);
    t.after(() => other.stop());
    await untilFound(caches);
    const alone = caches.sources[0]?.patienceMs ?? 0;
    announce(t, port, other.port);
    while (caches.sources.length < 2) await sleep(10);
    assert.equal(
      caches.sources.reduce((sum, { patienceMs = 0 }) => sum + patienceMs, 0),
      alone,
    );
  });

  test('a cache that did not work at first is found later', async (t) => {
    const { cache, caches } = await scene(t, { isBroken: true });
    while (cache.requests.length === 0) await sleep(10);
    assert.equal(caches.sources.length, 0);
    cache.faults = [];
    await untilFound(caches);
  });

  test('a configured cache is not used twice, and one of another store directory not at all', async (t) => {
    const configured = await scene(t, { configured: (url) => url });
    const withPassword = await scene(t, { configured: (url) => `${url.replace('//', '//me:secret@')}/cache` });
    const foreign = await scene(t, { storeDir: '/other/store' });
    while (foreign.cache.requests.length === 0) await sleep(10);
    assert.equal(await foreign.caches.awaited.find(hash, signal), undefined);
    assert.equal(await configured.caches.awaited.find(hash, signal), undefined);
    assert.equal(await withPassword.caches.awaited.find(hash, signal), undefined);
    assert.deepEqual([...configured.cache.requests, ...withPassword.cache.requests], []);
  });
});
