import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpsServer } from 'node:https';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, suite, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { HttpClient, type HttpClientOptions } from '../../src/http/client.ts';
import { makeCertificate } from '../support/certificate.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { startHttpProxy, startSocksProxy } from '../support/proxies.ts';
import { CACHE_INFO, startFixture } from './fixture.ts';

/** A client that uses this proxy, and makes a single attempt. */
function clientThrough(proxy: string, options: HttpClientOptions = {}): HttpClient {
  process.env['all_proxy'] = proxy;
  return new HttpClient({ retries: 0, ...options });
}

const get = (client: HttpClient, url: string): Promise<Uint8Array | undefined> =>
  client.getBytes(url, { maxBytes: 100 });

/** A server that does the same with each connection. */
async function listen(onConnection: (socket: Socket) => void): Promise<{ host: string } & AsyncDisposable> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => undefined));
    onConnection(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

suite('through a proxy', { timeout: 180_000 }, () => {
  afterEach(() => delete process.env['all_proxy']);

  for (const { kind, start, asked } of [
    { kind: 'HTTP', start: startHttpProxy, asked: 'GET ' },
    { kind: 'SOCKS5', start: startSocksProxy, asked: '' },
  ]) {
    test(`of ${kind}, a kept connection serves one request after another`, async () => {
      await using fixture = await startFixture();
      await using proxy = await start();
      await using client = clientThrough(proxy.url);
      for (let turn = 0; turn < 3; turn++) assert.deepEqual(await get(client, fixture.infoUrl), CACHE_INFO);
      assert.deepEqual(proxy.targets, [`${asked}127.0.0.1:${fixture.cache.port}`]);
    });

    test(`of ${kind}, a kept connection that has died is replaced without a retry`, async () => {
      await using fixture = await startFixture();
      await using proxy = await start();
      await using client = clientThrough(proxy.url);
      const several = Array.from({ length: 5 }, () => fixture.infoUrl);
      for (const bytes of await Promise.all(several.map((url) => get(client, url))))
        assert.deepEqual(bytes, CACHE_INFO);
      const before = proxy.targets.length;
      proxy.spoil();
      for (const bytes of await Promise.all(several.map((url) => get(client, url))))
        assert.deepEqual(bytes, CACHE_INFO);
      assert.ok(proxy.targets.length > before, 'no connection had died');
    });

    test(`of ${kind}, an https cache is the other end of the TLS connection`, async () => {
      await using certificate = await makeCertificate();
      const server = createHttpsServer(certificate, (_, response) => response.end('safe')).listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      await using proxy = await start();
      await using client = clientThrough(proxy.url, { caFile: certificate.caFile });
      for (let turn = 0; turn < 2; turn++)
        assert.equal(Buffer.from((await get(client, `https://127.0.0.1:${port}/`)) ?? []).toString(), 'safe');
      await using stranger = clientThrough(proxy.url);
      await assert.rejects(get(stranger, `https://127.0.0.1:${port}/`), {
        code: 'HTTP_FAILED',
        message: /after 1 attempt: its certificate is not trusted here/,
      });
      const asks = kind === 'HTTP' ? 'CONNECT ' : '';
      assert.deepEqual(proxy.targets, Array(2).fill(`${asks}127.0.0.1:${port}`));
      server.closeAllConnections();
      server.close();
    });

    test(`of ${kind}, the proxy resolves names`, async () => {
      await using fixture = await startFixture();
      await using proxy = await start();
      await using client = clientThrough(proxy.url);
      const url = `http://cache.test:${fixture.cache.port}`;
      assert.deepEqual(await get(client, `${url}/nix-cache-info`), CACHE_INFO);
      assert.deepEqual(proxy.targets, [`${asked}cache.test:${fixture.cache.port}`]);
    });

    test(`of ${kind}, IPv6 addresses are reached`, async () => {
      await using fixture = await startFixture();
      await using cache = await startHttpCache(fixture.root, { host: '::1' });
      await using proxy = await start();
      await using client = clientThrough(proxy.url);
      assert.deepEqual(await get(client, `http://[::1]:${cache.port}/nix-cache-info`), CACHE_INFO);
      assert.match(proxy.targets[0] ?? '', /^(?:GET \[::1\]|\[0:0:0:0:0:0:0:1\]):/);
    });

    test(`of ${kind}, a cache that stalls is given up as without a proxy`, async () => {
      await using fixture = await startFixture();
      fixture.cache.faults = [{ kind: 'stall-headers' }];
      await using proxy = await start();
      await using client = clientThrough(proxy.url, { stallTimeoutMs: 100 });
      await assert.rejects(get(client, fixture.infoUrl), { code: 'HTTP_STALLED' });
    });

    test(`of ${kind} that is not there, the failure names the proxy without its password`, async () => {
      const proxy = await start();
      await proxy[Symbol.asyncDispose]();
      await using client = clientThrough(proxy.url);
      const shown = proxy.url.replace(/\/\/.*@/, '//');
      await assert.rejects(get(client, 'http://cache.test/'), {
        code: 'HTTP_FAILED',
        message: new RegExp(`no way through the proxy ${shown}: connect ECONNREFUSED .*: check the address`),
      });
    });
  }

  test('at an https address, http and https caches are reached', async () => {
    await using fixture = await startFixture();
    await using certificate = await makeCertificate();
    const safe = createHttpsServer(certificate, (_, response) => response.end('safe')).listen(0, '127.0.0.1');
    await once(safe, 'listening');
    await using proxy = await startHttpProxy();
    const front = createTlsServer(certificate, (client) => {
      const behind = connect(Number(new URL(proxy.url).port), '127.0.0.1');
      client.pipe(behind).pipe(client);
    }).listen(0, '127.0.0.1');
    await once(front, 'listening');
    const url = new URL(proxy.url.replace('http:', 'https:'));
    url.port = String((front.address() as AddressInfo).port);
    await using client = clientThrough(url.href, { caFile: certificate.caFile });
    const safeUrl = `https://127.0.0.1:${(safe.address() as AddressInfo).port}/`;
    for (let turn = 0; turn < 2; turn++) {
      assert.deepEqual(await get(client, fixture.infoUrl), CACHE_INFO);
      assert.equal(Buffer.from((await get(client, safeUrl)) ?? []).toString(), 'safe');
    }
    assert.equal(proxy.targets.length, 2);
    await using stranger = clientThrough(url.href);
    await assert.rejects(get(stranger, fixture.infoUrl), { message: /no way through the proxy .*: its certificate/ });
    safe.closeAllConnections();
    safe.close();
    front.close();
  });

  test('that wants a password, the failure says so', async () => {
    await using socks = await startSocksProxy();
    await using http = await startHttpProxy();
    const [noPassword, wrong] = [/^(.*\/\/).*@/, /p%3Aw/];
    for (const [url, cache, reason] of [
      [
        socks.url.replace(noPassword, '$1'),
        'http://cache.test/',
        /after 1 attempt: no way through the proxy .*: it wants a user and a password$/,
      ],
      [
        socks.url.replace(wrong, 'x'),
        'http://cache.test/',
        /after 1 attempt: .*: it refused the user or the password of its address$/,
      ],
      [http.url.replace(noPassword, '$1'), 'http://cache.test/', /after 1 attempt: it answered 407: the proxy wants/],
      [
        http.url.replace(wrong, 'x'),
        'https://cache.test/',
        /after 1 attempt: no way through the proxy .*: it answered 407: the proxy wants/,
      ],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- each has its own environment
      await using client = clientThrough(url, { retries: 3 });
      await assert.rejects(get(client, cache), { code: 'HTTP_FAILED', message: reason });
    }
    assert.deepEqual([...socks.targets, ...http.targets], []);
  });

  test('that is no proxy or closes the connection, a failure follows', async () => {
    await using wordy = await listen((socket) => void socket.write('SSH-2.0-x\r\n\r\n'));
    await using deaf = await listen((socket) => socket.end());
    for (const scheme of ['http', 'socks5'])
      for (const [{ host }, reason] of [
        [wordy, scheme === 'http' ? /the answer is not HTTP/ : /it does not speak SOCKS5/],
        [deaf, /the server closed the connection/],
      ] as const) {
        // oxlint-disable-next-line no-await-in-loop -- each has its own environment
        await using client = clientThrough(`${scheme}://${host}`);
        await assert.rejects(get(client, 'https://cache.test/'), { code: 'HTTP_FAILED', message: reason });
      }
  });

  test('that is silent, the connection is given up in time', async () => {
    await using silent = await listen(() => undefined);
    for (const scheme of ['http', 'socks5']) {
      // oxlint-disable-next-line no-await-in-loop -- each has its own environment
      await using client = clientThrough(`${scheme}://${silent.host}`, { connectTimeoutMs: 100 });
      await assert.rejects(get(client, 'https://cache.test/'), { message: /no way through the proxy .* within 0.1 s/ });
    }
  });

  for (const [reply, reason, attempts] of [
    [2, /its rules do not allow it/, 1],
    [5, /the server refused the connection/, 3],
    [77, /it failed to connect/, 3],
  ] as const)
    test(`of SOCKS5 that refuses with ${reply}, there are ${attempts} attempts`, async () => {
      let connections = 0;
      await using proxy = await listen((socket) => {
        connections++;
        socket.write(Buffer.of(5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0)); // before it was asked
      });
      await using client = clientThrough(`socks5://${proxy.host}`, { retries: 2, backoffMs: 1 });
      await assert.rejects(get(client, 'http://cache.test/'), { code: 'HTTP_FAILED', message: reason });
      assert.equal(connections, attempts);
    });

  test('of SOCKS5, bytes behind its reply are the answer of the cache', async () => {
    const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    await using proxy = await listen((socket) => {
      socket.once('data', () => {
        socket.write(Buffer.of(5, 0));
        socket.on('data', (bytes) => {
          if (bytes[0] !== 5) socket.write(answer);
          else
            socket.write(
              Buffer.concat([Buffer.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0), Buffer.from('HTTP/1.1 100 x\r\n\r\n')]),
            );
        });
      });
    });
    await using client = clientThrough(`socks5://${proxy.host}`);
    assert.equal(Buffer.from((await get(client, 'http://cache.test/')) ?? []).toString(), 'ok');
  });
});
