import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isNarswarmError } from '../../src/errors.ts';
import { CACHE_INFO, STALL_MS, startFixture } from './fixture.ts';

describe('getBytes', { timeout: 180_000 }, () => {
  it('returns the whole body', async () => {
    await using fixture = await startFixture();
    assert.deepEqual(await fixture.client.getBytes(fixture.infoUrl, { maxBytes: CACHE_INFO.length }), CACHE_INFO);
  });

  for (const status of [403, 404, 410]) {
    it(`returns undefined for ${status}, without asking again`, async () => {
      await using fixture = await startFixture();
      fixture.cache.faults = [{ kind: 'status', status }];
      assert.equal(await fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), undefined);
      assert.equal(fixture.cache.requests.length, 1);
    });
  }

  for (const status of [408, 425, 429, 500, 503]) {
    it(`retries after ${status}`, async () => {
      await using fixture = await startFixture();
      fixture.cache.faults = [{ kind: 'status', status, times: 2 }];
      assert.deepEqual(await fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), CACHE_INFO);
      assert.equal(fixture.cache.requests.length, 3);
    });
  }

  it('its error names the reason, the URL without secrets, and the number of attempts', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'status', status: 503 }];
    const url = fixture.infoUrl.replace('//', '//user:secret@');
    await assert.rejects(fixture.client.getBytes(`${url}?token=secret`, { maxBytes: 100 }), (error: Error) => {
      assert.equal(error.message, `${fixture.infoUrl} failed after 3 attempts: the server answered 503`);
      assert.ok(isNarswarmError(error, 'HTTP_FAILED') && error.cause instanceof Error);
      assert.deepEqual(error.facts, { url: fixture.infoUrl, attempts: 3, status: 503, why: 'the server answered 503' });
      return true;
    });
  });

  it('does not retry a refused request', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'status', status: 401 }];
    await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), { code: 'HTTP_FAILED' });
    assert.equal(fixture.cache.requests.length, 1);
  });

  it('recovers from a cut, and from stalls before and inside the body', async () => {
    await using fixture = await startFixture({ retries: 3, stallTimeoutMs: STALL_MS });
    fixture.cache.faults = [
      { kind: 'cut', afterBytes: 5, times: 1 },
      { kind: 'stall-headers', times: 1 },
      { kind: 'stall', afterBytes: 5, times: 1 },
    ];
    assert.deepEqual(await fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), CACHE_INFO);
    assert.equal(fixture.cache.requests.length, 4);
  });

  const endings = [
    ['cut', 'HTTP_TRUNCATED'],
    ['stall', 'HTTP_STALLED'],
    ['stall-headers', 'HTTP_STALLED'],
  ] as const;
  for (const [kind, code] of endings) {
    it(`reports a lasting ${kind} as ${code}`, async () => {
      await using fixture = await startFixture({ retries: 1, stallTimeoutMs: STALL_MS });
      fixture.cache.faults = [{ kind, afterBytes: 5 }];
      await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), { code });
      assert.equal(fixture.cache.requests.length, 2);
    });
  }

  it('refuses more than maxBytes, announced or not', async () => {
    await using fixture = await startFixture();
    const maxBytes = CACHE_INFO.length - 1;
    await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes }), { code: 'SIZE_MISMATCH' });
    fixture.cache.faults = [{ kind: 'longer' }];
    const exact = CACHE_INFO.length;
    await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: exact }), { code: 'SIZE_MISMATCH' });
    assert.equal(fixture.cache.requests.length, 2);
  });

  it('reports a server that cannot be reached', async () => {
    await using fixture = await startFixture({ retries: 1 });
    await fixture.cache.stop();
    const failure = { code: 'HTTP_FAILED', message: /2 attempts.*ECONNREFUSED/ };
    await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), failure);
  });

  it('honours Retry-After', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'status', status: 429, times: 1, retryAfter: '1' }];
    const begun = performance.now();
    await fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 });
    assert.ok(performance.now() - begun >= 990);
  });

  it('does not count waiting for a free connection as a stall', async () => {
    await using fixture = await startFixture({ connectionsPerOrigin: 1, retries: 0, stallTimeoutMs: STALL_MS });
    fixture.cache.faults = [{ kind: 'slow', rateBytesPerSec: 50 }]; // 420 ms each, so the last waits over 2 s
    const get = (): Promise<unknown> => fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 });
    const bodies = await Promise.all(Array.from({ length: 6 }, get));
    assert.ok(bodies.every((body) => body !== undefined));
  });
});

describe('ending', { timeout: 180_000 }, () => {
  it("throws the signal's reason at once: before, while stalled, while waiting to retry", async () => {
    await using fixture = await startFixture();
    const reason = new Error('enough');
    const get = (signal: AbortSignal): Promise<unknown> =>
      fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100, signal });
    const isReason = (error: unknown): boolean => error === reason;
    await assert.rejects(get(AbortSignal.abort(reason)), isReason);
    assert.equal(fixture.cache.requests.length, 0);
    for (const fault of [{ kind: 'stall-headers' }, { kind: 'stall' }, { kind: 'status', retryAfter: '30' }] as const) {
      fixture.cache.faults = [fault];
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 50);
      // oxlint-disable-next-line no-await-in-loop -- one fault after the other
      await assert.rejects(get(controller.signal), isReason);
    }
  });

  it('close ends running requests, and later ones are refused', async () => {
    for (const fault of [{ kind: 'stall-headers' }, { kind: 'stall' }, { kind: 'status', retryAfter: '30' }] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one fault after the other
      await using fixture = await startFixture();
      fixture.cache.faults = [fault];
      const { signal } = new AbortController();
      const get = (): Promise<unknown> => fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100, signal });
      const running = get();
      setTimeout(() => void fixture.client.close(), 20);
      // oxlint-disable-next-line no-await-in-loop -- see above
      await assert.rejects(running, { code: 'INTERRUPTED' });
      // oxlint-disable-next-line no-await-in-loop -- see above
      await assert.rejects(get(), { code: 'INTERRUPTED' });
    }
  });
});
