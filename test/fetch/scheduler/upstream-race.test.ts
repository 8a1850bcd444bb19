/** Two caches and one NAR: each cache is judged by the bytes that it has sent. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { fetchFromUpstreams } from '../../../src/fetch/scheduler/upstream-lane.ts';
import { UpstreamOrder } from '../../../src/fetch/scheduler/upstream-order.ts';
import { UpstreamRace } from '../../../src/fetch/scheduler/upstream-race.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { PartialNar } from '../../../src/store/partial.ts';
import { RateLimit } from '../../../src/bytes/rate-limit.ts';
import { startHttpCache, type Fault, type HttpCache } from '../../support/http-cache.ts';
import { makeCachedNar } from './cached-nar.ts';

interface Scene {
  readonly first: HttpCache;
  readonly second: HttpCache;
  /** Fetches the NAR to its end, and checks every byte. */
  readonly fetch: (options?: { limit?: RateLimit; isLineSilent?: () => boolean }) => Promise<void>;
  readonly order: UpstreamOrder;
}

async function scene(t: TestContext, sizeBytes: number, faults: readonly (readonly Fault[])[]): Promise<Scene> {
  const { dir, cacheDir, bytes, job } = await makeCachedNar(t, sizeBytes);
  const caches = await Promise.all(faults.map(() => startHttpCache(cacheDir)));
  for (const [index, cache] of caches.entries()) cache.faults = [...(faults[index] ?? [])];
  const http = new HttpClient({ retries: 0 });
  t.after(async () => {
    await http.close();
    await Promise.all(caches.map((cache) => cache.stop()));
  });
  const upstreams = caches.map(({ url }) => parseUpstream(url));
  const order = new UpstreamOrder(upstreams);
  const [first, second] = caches;
  assert.ok(first !== undefined && second !== undefined);
  return {
    first,
    second,
    order,
    async fetch({ limit = new RateLimit(), isLineSilent = () => false } = {}) {
      await using partial = await PartialNar.open(join(dir, 'partial'), job);
      const nothing = (): void => undefined;
      await fetchFromUpstreams(job, partial, {
        upstreams,
        order,
        http,
        limit,
        tried: new Set([job.fileHash]),
        tell: nothing,
        signal: new AbortController().signal,
        isLineSilent,
        mayRace: true,
      });
      await partial.settle(join(dir, 'target'));
      assert.ok(bytes.equals(await readFile(join(dir, 'target'))));
    },
  };
}

const slow = (rateBytesPerSec: number): Fault => ({ kind: 'slow', rateBytesPerSec });

suite('two upstreams', { concurrency: true, timeout: 180_000 }, () => {
  for (const sizeBytes of [600_000, 3_000_000]) {
    test(`of ${sizeBytes} bytes, the slow one sends the first few and the fast one the rest`, async (t) => {
      const { first, second, fetch } = await scene(t, sizeBytes, [[slow(20_000)], []]);
      await fetch();
      assert.ok(first.bytesSent() < sizeBytes / 4, `the slow one has sent ${first.bytesSent()}`);
      const [request] = second.requests;
      assert.match(request?.range ?? '', /^bytes=[1-9]/, 'what the slow one had sent is kept');
    });
  }

  test('an upstream that falls silent or never answers loses at once', async (t) => {
    for (const fault of [{ kind: 'stall', afterBytes: 5_000 }, { kind: 'stall-headers' }] as const) {
      const { first, second, fetch } = await scene(t, 300_000, [[fault], []]);
      await fetch({ isLineSilent: () => true });
      assert.equal(first.requests.length, 1);
      assert.ok(second.bytesSent() >= 295_000);
    }
  });

  test('an upstream that falls silent loses at once, too, if it was faster a moment ago', async (t) => {
    const { order, fetch } = await scene(t, 300_000, [[{ kind: 'stall', afterBytes: 5_000 }], []]);
    const [first, second] = order.upstreams.map((upstream) => order.meritOf(upstream));
    second?.gate.begin();
    second?.gate.end('lost', performance.now());
    await fetch({ isLineSilent: () => true });
    assert.equal(first?.isFailing, false, 'it was overtaken before it counted as stalled');
  });

  test('a second upstream that is slower, lacks the NAR or fails changes nothing', async (t) => {
    const worse: Fault[] = [
      slow(20_000),
      { kind: 'status', status: 404 },
      { kind: 'status' },
      { kind: 'stall-headers' },
    ];
    const beside = async (fault: Fault): Promise<void> => {
      const { first, second, fetch } = await scene(t, 1_000_000, [[slow(250_000)], [fault]]);
      await fetch();
      assert.equal(first.requests.length, 1, `${fault.kind}: the first one goes on`);
      assert.ok(second.bytesSent() < 150_000, `${fault.kind}: ${second.bytesSent()}`);
    };
    await Promise.all(worse.map(beside));
  });

  test('our own limit makes no source slow', async (t) => {
    const { second, fetch } = await scene(t, 500_000, [[], []]);
    await fetch({ limit: new RateLimit(100_000) });
    assert.equal(second.requests.length, 0);
  });

  test('a single upstream gets all the time, unless peers may help', async () => {
    const upstream = parseUpstream('http://127.0.0.1:9');
    for (const othersMayHelp of [true, false]) {
      let seen: boolean | undefined;
      await new UpstreamRace({
        upstreams: [upstream],
        order: new UpstreamOrder([upstream]),
        ask: async (_, { givesWay }) => void (seen = givesWay),
        othersMayHelp,
        leftBytes: () => 0,
        isHeldBack: () => false,
        isLineSilent: () => false,
        onOutcome: () => undefined,
        isFatal: () => false,
        signal: new AbortController().signal,
      }).run();
      assert.equal(seen, othersMayHelp);
    }
  });
});
