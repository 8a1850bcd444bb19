import assert from 'node:assert/strict';
import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CACHE_INFO, NAR, startFixture } from './fixture.ts';

/** Sends the path unchanged; fetch would normalise it. */
async function getStatus(port: number, path: string): Promise<number | undefined> {
  const outgoing = request({ host: '127.0.0.1', port, path }).end();
  const [response] = await once(outgoing, 'response');
  response.resume();
  return response.statusCode;
}

describe('the test cache', { timeout: 180_000 }, () => {
  it('serves nothing outside its root', async () => {
    await using fixture = await startFixture();
    await symlink('/etc/passwd', join(fixture.root, 'link'));
    const paths = ['/../../../../etc/passwd', '/%2e%2e/%2e%2e/%2e%2e/etc/passwd', '/..%2f..%2fetc/passwd', '/link'];
    for (const path of [...paths, '/', '/nar', '/%', '/none', '//etc/passwd']) {
      // oxlint-disable-next-line no-await-in-loop -- one path after the other
      assert.equal(await getStatus(fixture.cache.port, path), 404, path);
    }
  });

  it('answers ranges and HEAD, and counts requests', async () => {
    await using fixture = await startFixture();
    const ask = (range: string): Promise<Response> => fetch(fixture.narUrl, { headers: { range } });
    const tail = await ask('bytes=-10');
    assert.equal(tail.status, 206);
    assert.deepEqual(Buffer.from(await tail.arrayBuffer()), NAR.subarray(-10));
    assert.equal((await ask(`bytes=${NAR.length}-`)).status, 416);
    const head = await fetch(fixture.infoUrl, { method: 'HEAD' });
    assert.equal(head.headers.get('content-length'), String(CACHE_INFO.length));
    assert.equal(fixture.cache.bytesSent(), 10);
    assert.deepEqual(fixture.cache.requests[0], {
      method: 'GET',
      url: '/nar/x.nar.xz',
      range: 'bytes=-10',
      status: 206,
      bytes: 10,
    });
    fixture.cache.resetCounts();
    assert.equal(fixture.cache.requests.length, 0);
  });

  it('stops in spite of a stalled connection', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'stall-headers' }];
    const stalled = assert.rejects(fetch(fixture.infoUrl));
    while (fixture.cache.requests.length === 0) {
      // oxlint-disable-next-line no-await-in-loop -- until the request arrives
      await new Promise(setImmediate);
    }
    await fixture.cache.stop();
    await stalled;
  });
});
