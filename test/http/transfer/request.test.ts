import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { HttpClient } from '../../../src/http/client.ts';
import { readPort } from '../../support/http-cache.ts';
import { serve } from '../../support/odd-server.ts';
import { CACHE_INFO, Collector, NAR, startFixture } from '../fixture.ts';

describe('a request', { timeout: 180_000 }, () => {
  it('asks for identity, names itself, and sends the credentials of its URL', async () => {
    let headers: IncomingMessage['headers'] = {};
    await using server = await serve((request, response) => {
      headers = request.headers;
      response.end('x');
    });
    await using client = new HttpClient({ userAgent: 'test/1' });
    await client.getBytes(server.url.replace('//', '//us%40er:p%3Aw@'), { maxBytes: 1 });
    assert.equal(headers['accept-encoding'], 'identity');
    assert.equal(headers['user-agent'], 'test/1');
    assert.equal(headers.authorization, `Basic ${Buffer.from('us@er:p:w').toString('base64')}`);
  });

  it('accepts a 206 that is shorter than requested, and requests the rest', async () => {
    await using server = await serve((request, response) => {
      const start = Number(/bytes=(\d+)/.exec(request.headers.range ?? '')?.[1]);
      const part = NAR.subarray(start, start + 60_000);
      response.setHeader('content-range', `bytes ${start}-${start + part.length - 1}/${NAR.length}`);
      response.writeHead(206).end(part);
    });
    await using client = new HttpClient({ backoffMs: 1, retries: 1 });
    const collector = new Collector(10);
    await client.download(server.url, { offset: 10, sizeBytes: NAR.length, sink: collector.sink });
    assert.ok(collector.bytes.equals(NAR.subarray(10)));
  });

  for (const [status, range] of [
    [201, undefined],
    [206, undefined],
    [206, `bytes 0-${NAR.length - 1}/${NAR.length}`],
  ] as const)
    it(`accepts ${status} with Content-Range ${range} as the whole file, as Nix does`, async () => {
      await using server = await serve((_, response) => {
        if (range !== undefined) response.setHeader('content-range', range);
        response.writeHead(status, { 'content-length': NAR.length }).end(NAR);
      });
      await using client = new HttpClient({ retries: 0 });
      const collector = new Collector();
      await client.download(server.url, { sizeBytes: NAR.length, sink: collector.sink });
      assert.ok(collector.bytes.equals(NAR));
      assert.ok(NAR.equals((await client.getBytes(server.url, { maxBytes: NAR.length })) ?? Buffer.of()));
    });

  it('accepts no part that it has not asked for', async () => {
    await using server = await serve((_, response) => {
      response.setHeader('content-range', `bytes 0-9/${NAR.length}`);
      response.writeHead(206, { 'content-length': 10 }).end(NAR.subarray(0, 10));
    });
    await using client = new HttpClient({ retries: 0 });
    const collector = new Collector();
    await assert.rejects(client.getBytes(server.url, { maxBytes: NAR.length }), { code: 'HTTP_FAILED' });
    await assert.rejects(client.download(server.url, { sink: collector.sink }), { code: 'HTTP_FAILED' });
    assert.equal(collector.bytes.length, 0);
  });

  it('stops reading a body without Range as soon as it has its part', async () => {
    await using server = await serve((_, response) => {
      response.setHeader('content-length', NAR.length).write(NAR.subarray(0, 50)); // and no more
    });
    await using client = new HttpClient({ stallTimeoutMs: 60_000 });
    const collector = new Collector(10);
    await client.download(server.url, { offset: 10, end: 20, sink: collector.sink });
    assert.ok(collector.bytes.equals(NAR.subarray(10, 20)));
  });
});

describe('redirects', { timeout: 180_000 }, () => {
  for (const status of [301, 302, 303, 307, 308]) {
    it(`are followed (${status}), with the Range`, async () => {
      await using fixture = await startFixture();
      const location = '/nar/x.nar.xz';
      fixture.cache.faults = [{ kind: 'redirect', match: /old/, status, location }];
      const collector = new Collector(5);
      const options = { offset: 5, sizeBytes: NAR.length, sink: collector.sink };
      await fixture.client.download(`${fixture.cache.url}/old`, options);
      assert.ok(collector.bytes.equals(NAR.subarray(5)));
    });
  }

  it('carry no credentials to another origin', async () => {
    let authorization: string | undefined = 'none yet';
    await using other = await serve((request, response) => {
      authorization = request.headers.authorization;
      response.end('x');
    });
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'redirect', location: `${other.url}/x` }];
    await fixture.client.getBytes(fixture.infoUrl.replace('//', '//user:pw@'), { maxBytes: 1 });
    assert.equal(authorization, undefined);
  });

  it('are followed 10 times, but not 11', async () => {
    await using fixture = await startFixture();
    fixture.cache.faults = [{ kind: 'redirect', times: 10, location: '/nix-cache-info' }];
    assert.deepEqual(await fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), CACHE_INFO);
    fixture.cache.resetCounts();
    fixture.cache.faults = [{ kind: 'redirect', location: '/nix-cache-info' }];
    const failure = { code: 'HTTP_FAILED', message: /more than 10 redirects/ };
    await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), failure);
    assert.equal(fixture.cache.requests.length, 11);
  });

  for (const location of ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'http://[']) {
    it(`to ${location} are refused`, async () => {
      await using fixture = await startFixture();
      fixture.cache.faults = [{ kind: 'redirect', location }];
      await assert.rejects(fixture.client.getBytes(fixture.infoUrl, { maxBytes: 100 }), {
        code: 'HTTP_FAILED',
        message: /redirect/,
      });
      assert.equal(fixture.cache.requests.length, 1);
    });
  }
});

describe('the proxy of the environment', { timeout: 180_000 }, () => {
  it('carries the requests, unless no_proxy names the host', async (context) => {
    await using fixture = await startFixture();
    let carried = 0;
    const proxy = createServer().listen(0, '127.0.0.1');
    proxy.on('connect', (request: IncomingMessage, client: Socket) => {
      carried += 1;
      const upstream = connect(Number(request.url?.split(':')[1]), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
      upstream.on('error', () => client.destroy());
      client.on('error', () => upstream.destroy());
    });
    proxy.on('request', (request, response) => {
      carried += 1;
      void fetch(request.url ?? '').then(async (answer) => response.end(Buffer.from(await answer.arrayBuffer())));
    });
    await once(proxy, 'listening');
    context.after(() => {
      delete process.env['http_proxy'];
      delete process.env['no_proxy'];
      proxy.closeAllConnections();
      proxy.close();
    });
    process.env['http_proxy'] = `http://127.0.0.1:${readPort(proxy)}`;
    await using proxied = new HttpClient({ retries: 0 });
    assert.deepEqual(await proxied.getBytes(fixture.infoUrl, { maxBytes: 100 }), CACHE_INFO);
    assert.equal(carried, 1);
    process.env['no_proxy'] = '127.0.0.0/8';
    await using direct = new HttpClient({ retries: 0 });
    assert.deepEqual(await direct.getBytes(fixture.infoUrl, { maxBytes: 100 }), CACHE_INFO);
    assert.equal(carried, 1);
  });
});
