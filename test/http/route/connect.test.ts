import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, suite, test } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { connectToAny } from '../../../src/http/route/connect.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { startDeafServer } from '../../support/deaf-server.ts';
import { serveText } from '../../support/odd-server.ts';

const v4 = (address: string) => ({ address, family: 4 });
const v6 = (address: string) => ({ address, family: 6 });
const never = new AbortController().signal;

suite('a connection to a host with several addresses', { timeout: 180_000 }, () => {
  const server = createServer((socket) => socket.on('error', () => undefined).end());
  after(() => server.close());
  const listen = async (): Promise<number> => {
    if (!server.listening) await once(server.listen(0, '127.0.0.1'), 'listening');
    return (server.address() as AddressInfo).port;
  };

  test('is made to the next one if the first one fails', async () => {
    const port = await listen();
    using socket = disposable(await connectToAny([v4('127.0.0.2'), v4('127.0.0.1')], port, never));
    assert.equal(socket.remoteAddress, '127.0.0.1');
  });

  test('is made to the next one if the first one does not answer', async () => {
    await using deaf = await startDeafServer('127.0.0.3', await listen());
    using socket = disposable(await connectToAny([v4('127.0.0.3'), v4('127.0.0.1')], deaf.port, never));
    assert.equal(socket.remoteAddress, '127.0.0.1');
  });

  test('waits for a slow address while and after others are tried', async () => {
    await using slow = await startDeafServer('127.0.0.3', await listen());
    const connecting = connectToAny([v4('127.0.0.3'), v4('127.0.0.2'), v6('::1')], slow.port, never);
    await sleep(600); // by now both others have been tried, and have refused
    slow.hear();
    using socket = disposable(await connecting);
    assert.equal(socket.remoteAddress, '127.0.0.3');
  });

  test('tries the families in turn', async () => {
    await using deaf = await startDeafServer('127.0.0.3', await listen());
    const addresses = [v4('127.0.0.3'), v4('127.0.0.1'), v6('::1')];
    const other = createServer((socket) => socket.end()).listen({ host: '::1', port: deaf.port });
    await once(other, 'listening');
    using socket = disposable(await connectToAny(addresses, deaf.port, never));
    other.close();
    assert.equal(socket.remoteAddress, '::1');
  });

  test('fails with the failure that tells most, or with the reason of the signal', async () => {
    const port = await listen();
    // no connection can be made to the broadcast address
    const connecting = connectToAny([v4('255.255.255.255'), v4('127.0.0.2')], port, never);
    await assert.rejects(connecting, { code: 'ECONNREFUSED', address: '127.0.0.2' });
    await using deaf = await startDeafServer('127.0.0.3', port);
    const aborting = new AbortController();
    const waiting = connectToAny([v4('127.0.0.3')], deaf.port, aborting.signal);
    aborting.abort(new Error('enough'));
    await assert.rejects(waiting, { message: 'enough' });
  });

  test('names the way out if nothing listens, or something else than TLS', async () => {
    const port = await listen();
    await using client = new HttpClient({ retries: 0 });
    const ask = (url: string): Promise<unknown> => client.getBytes(url, { maxBytes: 1 });
    await assert.rejects(ask(`http://127.0.0.2:${port}/x`), {
      code: 'HTTP_FAILED',
      message:
        `http://127.0.0.2:${port}/x failed after 1 attempt: connect ECONNREFUSED 127.0.0.2:${port}: ` +
        'check the address, and that its server is running',
    });
    await using plain = await serveText('HTTP/1.1 400 Bad Request\r\n\r\n');
    await assert.rejects(ask(plain.url.replace('http', 'https')), {
      message: /it does not speak TLS \([^\n]*\): [^\n]*http:\/\/$/,
    });
  });

  test('fails at once if the server hangs up in the handshake', async () => {
    await using client = new HttpClient({ retries: 0, connectTimeoutMs: 60_000 });
    const asking = client.getBytes(`https://127.0.0.1:${await listen()}/x`, { maxBytes: 1 });
    await assert.rejects(asking, { code: 'HTTP_FAILED', message: /(?:disconnected|closed|ECONNRESET)[^\n]*$/ });
  });

  test('that is not made yet ends with the client', async () => {
    await using deaf = await startDeafServer('127.0.0.3', 0);
    const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
    const before = sockets();
    const client = new HttpClient({ connectTimeoutMs: 600_000 });
    const asking = client.getBytes(`http://127.0.0.3:${deaf.port}/x`, { maxBytes: 1 });
    asking.catch(() => undefined);
    while (sockets() === before) await sleep(5);
    await client.close();
    await assert.rejects(asking, { code: 'INTERRUPTED' });
    for (let turns = 0; turns < 10; turns++) await nextTurn();
    assert.ok(sockets() <= before); // a process would wait for its sockets
  });
});

function disposable<T extends { destroy(): unknown }>(socket: T): T & Disposable {
  return Object.assign(socket, { [Symbol.dispose]: () => void socket.destroy() });
}
