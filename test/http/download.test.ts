import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpClient } from '../../src/http/client.ts';
import type { Fault } from '../support/http-cache.ts';
import { serve } from '../support/odd-server.ts';
import { Collector, type Fixture, NAR, STALL_MS, startFixture } from './fixture.ts';

const sizeBytes = NAR.length;

async function fetchNar(
  { client, narUrl }: Fixture,
  options: { offset?: number; sizeBytes?: number; end?: number } = { sizeBytes },
): Promise<Buffer> {
  const collector = new Collector(options.offset);
  const { bytes } = await client.download(narUrl, { ...options, sink: collector.sink });
  assert.equal(bytes, collector.bytes.length);
  return collector.bytes;
}

function listRanges({ cache }: Fixture): (string | undefined)[] {
  return cache.requests.map(({ range }) => range);
}

describe('download', { timeout: 180_000 }, () => {
  it('asks for a whole NAR without Range, and reports its progress', async () => {
    await using fixture = await startFixture();
    let bytes = 0;
    const collector = new Collector();
    const onProgress = (more: number): void => void (bytes += more);
    await fixture.client.download(fixture.narUrl, { sizeBytes, sink: collector.sink, onProgress });
    assert.ok(collector.bytes.equals(NAR));
    assert.equal(bytes, sizeBytes);
    assert.deepEqual(listRanges(fixture), [undefined]);
    assert.ok((await fetchNar(fixture, {})).equals(NAR));
  });

  it('asks for a part by Range', async () => {
    await using fixture = await startFixture();
    assert.ok((await fetchNar(fixture, { offset: 100, sizeBytes })).equals(NAR.subarray(100)));
    assert.ok((await fetchNar(fixture, { offset: 100, end: 300, sizeBytes })).equals(NAR.subarray(100, 300)));
    assert.ok((await fetchNar(fixture, { end: 300 })).equals(NAR.subarray(0, 300)));
    assert.ok((await fetchNar(fixture, { offset: 100 })).equals(NAR.subarray(100)));
    assert.deepEqual(listRanges(fixture), [`bytes=100-${sizeBytes - 1}`, 'bytes=100-299', 'bytes=0-299', 'bytes=100-']);
  });

  it('asks for nothing if nothing is missing', async () => {
    await using fixture = await startFixture();
    assert.equal((await fetchNar(fixture, { offset: sizeBytes, sizeBytes })).length, 0);
    assert.equal(fixture.cache.requests.length, 0);
  });

  const recoverable: Fault[] = [
    { kind: 'cut', afterBytes: 50_000, times: 5 },
    { kind: 'stall', afterBytes: 50_000, times: 3 },
    { kind: 'shorter', afterBytes: 50_000, times: 3 },
    { kind: 'cut', times: 2 },
    { kind: 'stall-headers', times: 2 },
    { kind: 'status', status: 502, times: 2 },
  ];
  describe('continues', { concurrency: true }, () => {
    for (const fault of recoverable) {
      for (const known of [true, false]) {
        // A well-formed body that is too short is noticed only by the caller.
        if (fault.kind === 'shorter' && !known) continue;
        const size = known ? 'known' : 'unknown';
        it(`after ${fault.kind} at ${fault.afterBytes ?? 0}, ${fault.times} times, size ${size}`, async () => {
          await using fixture = await startFixture({ stallTimeoutMs: STALL_MS });
          fixture.cache.faults = [{ ...fault }];
          assert.ok((await fetchNar(fixture, known ? { sizeBytes } : {})).equals(NAR));
          assert.ok(fixture.cache.bytesSent() < sizeBytes + 10_000, 'bytes that had arrived were not requested again');
        });
      }
    }
  });

  it('skips the bytes it has if the server ignores Range', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'cut', afterBytes: 120_000, times: 1 }, { kind: 'ignore-range' }];
    assert.ok((await fetchNar(fixture)).equals(NAR));
    assert.deepEqual(listRanges(fixture).length, 2);
    assert.ok((await fetchNar(fixture, { offset: 1_000, end: 90_000 })).equals(NAR.subarray(1_000, 90_000)));
    assert.ok((await fetchNar(fixture, { offset: 1_000, end: 90_000, sizeBytes })).equals(NAR.subarray(1_000, 90_000)));
  });

  it('passes corrupt bytes on: the caller checks the hash', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'corrupt', afterBytes: 7 }];
    const body = await fetchNar(fixture);
    assert.equal(body.length, sizeBytes);
    assert.notEqual(body[7], NAR[7]);
  });

  it('holds the server back while the sink is busy, and does not count that as a stall', async () => {
    await using fixture = await startFixture({ retries: 0, stallTimeoutMs: STALL_MS });
    let running = 0;
    const sink = async (): Promise<void> => {
      assert.equal((running += 1), 1);
      await sleep(1);
      running -= 1;
    };
    assert.deepEqual(await fixture.client.download(fixture.narUrl, { sizeBytes, sink }), { bytes: sizeBytes });
    let isFirst = true;
    const slowOnce = async (): Promise<void> => {
      if (isFirst) await sleep(1.5 * STALL_MS);
      isFirst = false;
    };
    assert.deepEqual(await fixture.client.download(fixture.narUrl, { sizeBytes, sink: slowOnce }), {
      bytes: sizeBytes,
    });
  });

  it('does not count time in which this process does not run as a stall', async () => {
    await using fixture = await startFixture({ retries: 0, stallTimeoutMs: STALL_MS });
    fixture.cache.faults = [{ kind: 'slow', rateBytesPerSec: sizeBytes }];
    let chunks = 0;
    const sink = (): void => {
      if (++chunks === 3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * STALL_MS); // as if it was stopped
    };
    assert.deepEqual(await fixture.client.download(fixture.narUrl, { sizeBytes, sink }), { bytes: sizeBytes });
    assert.equal(fixture.cache.requests.length, 1);
  });

  it('survives a slow server that never stalls', async () => {
    await using fixture = await startFixture({ retries: 0, stallTimeoutMs: STALL_MS });
    fixture.cache.faults = [{ kind: 'slow', rateBytesPerSec: sizeBytes / 3 }]; // for two STALL_MS
    assert.ok((await fetchNar(fixture)).equals(NAR));
  });
});

describe('a server that trickles', { timeout: 180_000 }, () => {
  /** Sends the length of the NAR, ten bytes of it with `gapMs` between them, and then the rest. */
  async function startTrickle(gapMs: number): Promise<{ url: string; requests: () => number } & AsyncDisposable> {
    let requests = 0;
    const server = await serve((_, response) => {
      requests += 1;
      response.writeHead(200, { 'content-length': sizeBytes }).write(NAR.subarray(0, 1));
      let at = 1;
      const timer = setInterval(() => {
        if (at === 10) response.end(NAR.subarray(at));
        else response.write(NAR.subarray(at, at + 1));
        at += 1;
      }, gapMs);
      response.on('close', () => clearInterval(timer));
    });
    return Object.assign(server, { requests: () => requests });
  }

  it('is given up below 1 byte/s, after the time that Nix gives it, and its bytes earn no further attempts', async () => {
    await using server = await startTrickle(1_900);
    await using client = new HttpClient({ stallTimeoutMs: 4_000, retries: 1, backoffMs: 1 });
    await assert.rejects(client.download(server.url, { sizeBytes, sink: () => undefined }), {
      code: 'HTTP_STALLED',
      message: /after 2 attempts: the server stalled, sending less than 1 byte\/s for 4 s$/,
    });
    assert.ok(server.requests() >= 2);
  });
});

describe('download gives up', { timeout: 180_000 }, () => {
  const refused: [string, Fault[], { offset?: number; sizeBytes?: number }, object, number][] = [
    ['404', [{ kind: 'status', status: 404 }], {}, { code: 'HTTP_NOT_FOUND' }, 1],
    ['403', [{ kind: 'status', status: 403 }], {}, { code: 'HTTP_NOT_FOUND' }, 1],
    ['410', [{ kind: 'status', status: 410 }], {}, { code: 'HTTP_NOT_FOUND' }, 1],
    ['400', [{ kind: 'status', status: 400 }], {}, { code: 'HTTP_FAILED' }, 1],
    ['an offset beyond its end', [], { offset: sizeBytes + 5 }, { code: 'SIZE_MISMATCH' }, 2],
    ['lasting 503', [{ kind: 'status' }], {}, { code: 'HTTP_FAILED', message: /3 attempts/ }, 3],
    ['cuts without progress', [{ kind: 'cut' }], { sizeBytes }, { code: 'HTTP_TRUNCATED' }, 3],
    ['stalls without progress', [{ kind: 'stall' }], { sizeBytes }, { code: 'HTTP_STALLED' }, 3],
    ['another Content-Length', [], { sizeBytes: sizeBytes + 1 }, { code: 'SIZE_MISMATCH' }, 1],
    ['another Content-Range total', [], { offset: 9, sizeBytes: sizeBytes + 1 }, { code: 'SIZE_MISMATCH' }, 2],
    ['a longer body', [{ kind: 'longer' }], { sizeBytes }, { code: 'SIZE_MISMATCH' }, 1],
    ['a longer part', [{ kind: 'longer' }], { offset: 9, sizeBytes }, { code: 'SIZE_MISMATCH' }, 2],
  ];
  for (const [name, faults, options, failure, requests] of refused) {
    it(`on ${name}`, async () => {
      await using fixture = await startFixture({ stallTimeoutMs: STALL_MS });
      fixture.cache.faults = faults;
      await assert.rejects(fetchNar(fixture, options), failure);
      assert.equal(fixture.cache.requests.length, requests);
    });
  }

  it('after 50 resumptions, even with progress', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'cut', afterBytes: 10 }];
    await assert.rejects(fetchNar(fixture), { code: 'HTTP_TRUNCATED', message: /51 attempts/ });
    assert.equal(fixture.cache.requests.length, 51);
  });

  it('with the unchanged error of the sink, without another attempt', async () => {
    await using fixture = await startFixture();
    const full = Object.assign(new Error('disk full'), { code: 'ENOSPC' });
    const sink = (): void => {
      throw full;
    };
    await assert.rejects(fixture.client.download(fixture.narUrl, { sizeBytes, sink }), (error) => error === full);
    assert.equal(fixture.cache.requests.length, 1);
  });

  it("with the signal's reason, in the middle of a body", async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'stall', afterBytes: 1_000 }];
    const controller = new AbortController();
    const reason = new Error('enough');
    const sink = (): void => controller.abort(reason);
    const { signal } = controller;
    const running = fixture.client.download(fixture.narUrl, { sizeBytes, sink, signal });
    await assert.rejects(running, (error) => error === reason);
  });

  it("with the signal's reason, also if it aborts a busy sink, too", async () => {
    await using fixture = await startFixture();
    const controller = new AbortController();
    const reason = new Error('enough');
    const sink = async (): Promise<void> => {
      controller.abort(reason);
      await sleep(20);
      throw reason;
    };
    const running = fixture.client.download(fixture.narUrl, { sizeBytes, sink, signal: controller.signal });
    await assert.rejects(running, (error) => error === reason);
  });
});
