/** The rest of a NAR whose transfer from an upstream ends early. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { NarswarmError } from '../../../src/errors.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import type { Tell } from '../../../src/fetch/events.ts';
import { fetchFromUpstreams, type UpstreamContext } from '../../../src/fetch/scheduler/upstream-lane.ts';
import { UpstreamOrder } from '../../../src/fetch/scheduler/upstream-order.ts';
import { PartialNar } from '../../../src/store/partial.ts';
import { RateLimit } from '../../../src/bytes/rate-limit.ts';
import { startHttpCache, type HttpCache } from '../../support/http-cache.ts';
import { makeCachedNar } from './cached-nar.ts';

const LIMIT = { timeout: 180_000 };

interface Scene {
  readonly bytes: Buffer;
  readonly cache: HttpCache;
  readonly path: string;
  readonly target: string;
  readonly open: () => Promise<PartialNar>;
  /** @param tell called with each chunk */
  readonly fetch: (
    partial: PartialNar,
    options?: { signal?: AbortSignal; limit?: RateLimit; tell?: Tell },
  ) => Promise<void>;
}

/** A NAR in a cache, on its way into a partial file. */
async function scene(t: TestContext, sizeBytes: number): Promise<Scene> {
  const { dir, cacheDir, bytes, job } = await makeCachedNar(t, sizeBytes);
  const cache = await startHttpCache(cacheDir);
  const http = new HttpClient({ retries: 0 });
  t.after(async () => {
    await http.close();
    await cache.stop();
  });
  const path = join(dir, 'partial');
  const leftovers = new Set<string>();
  return {
    bytes,
    cache,
    path,
    target: join(dir, 'target'),
    open: () => PartialNar.open(path, job, leftovers),
    fetch: (partial, { signal = new AbortController().signal, limit = new RateLimit(), tell = () => undefined } = {}) =>
      fetchFromUpstreams(job, partial, {
        ...asked([cache]),
        http,
        limit,
        tried: new Set([job.fileHash]),
        tell,
        signal,
      }),
  };
}

/** Upstreams, with a fetch's knowledge about them. */
function asked(
  caches: readonly HttpCache[],
): Pick<UpstreamContext, 'upstreams' | 'order' | 'isLineSilent' | 'mayRace'> {
  const upstreams = caches.map(({ url }) => parseUpstream(url));
  return { upstreams, order: new UpstreamOrder(upstreams), isLineSilent: () => false, mayRace: true };
}

const INTERRUPTED = new NarswarmError('INTERRUPTED', 'enough');

for (const [sizeBytes, comeBytes] of [
  [300_000, 100_000],
  [3_000_000, 700_000],
] as const) {
  test(`of ${sizeBytes} bytes, those received before an abort are not fetched again`, LIMIT, async (t) => {
    const { bytes, cache, path, target, open, fetch } = await scene(t, sizeBytes);
    cache.faults = [{ kind: 'stall', afterBytes: comeBytes }];
    const stop = new AbortController();
    const come = Promise.withResolvers<void>();
    let received = 0;
    const tell: Tell = (event) => {
      if (event.type === 'nar-bytes') received += event.bytes;
      if (received === comeBytes) come.resolve();
    };
    const partial = await open();
    const running = fetch(partial, { signal: stop.signal, tell });
    await come.promise;
    stop.abort(INTERRUPTED);
    await assert.rejects(running, INTERRUPTED);
    assert.equal(partial.heldBytes, comeBytes);
    await partial.close();
    assert.ok(bytes.subarray(0, comeBytes).equals(await readFile(path)));

    cache.faults = [];
    cache.resetCounts();
    const next = await open();
    await fetch(next);
    assert.equal(cache.bytesSent(), sizeBytes - comeBytes);
    await next.settle(target);
    assert.ok(bytes.equals(await readFile(target)));
  });
}

test('an abort in the middle of writes leaves no gap and nothing wrong', LIMIT, async (t) => {
  const { bytes, path, target, open, fetch } = await scene(t, 40_000_000);
  for (let aborts = 0; ; aborts++) {
    const stop = new AbortController();
    const partial = await open();
    const before = partial.heldBytes;
    const abort = (): void => {
      if (aborts === 0 || Math.random() < 0.01) setImmediate(() => stop.abort(INTERRUPTED));
    };
    const outcome: unknown = await fetch(partial, { signal: stop.signal, tell: abort }).catch((error) => error);
    const { heldBytes } = partial;
    assert.ok(heldBytes >= before);
    if (outcome === undefined) {
      await partial.settle(target);
      assert.ok(aborts > 0);
      break;
    }
    assert.equal(outcome, INTERRUPTED);
    await partial.close();
    assert.ok(bytes.subarray(0, heldBytes).equals(await readFile(path)));
  }
  assert.ok(bytes.equals(await readFile(target)));
});

test('an abort while the rate holds a chunk back keeps the chunk', LIMIT, async (t) => {
  const { bytes, path, open, fetch } = await scene(t, 300_000);
  const stop = new AbortController();
  const partial = await open();
  const tell = (): void => void setTimeout(() => stop.abort(INTERRUPTED), 50);
  await assert.rejects(fetch(partial, { signal: stop.signal, limit: new RateLimit(1), tell }), INTERRUPTED);
  const { heldBytes } = partial;
  assert.ok(heldBytes > 0);
  await partial.close();
  assert.ok(bytes.subarray(0, heldBytes).equals(await readFile(path)));
});

test('bytes of an upstream that sent a wrong NAR are not continued by the next one', LIMIT, async (t) => {
  const { cache, open, fetch } = await scene(t, 300_000);
  cache.faults = [{ kind: 'cut', afterBytes: 100_000, times: 1 }, { kind: 'status' }];
  await using partial = await open();
  await assert.rejects(fetch(partial), AggregateError);
  assert.equal(partial.heldBytes, 0);
});
