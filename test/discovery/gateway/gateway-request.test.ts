import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { askGateway, type GatewayAnswer } from '../../../src/discovery/gateway/gateway-request.ts';

/** Asks a router once. */
async function ask(onRequest: RequestListener, path = '/'): Promise<GatewayAnswer | undefined> {
  const server = createServer(onRequest);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const place = { gateway: '127.0.0.1', own: '127.0.0.1' };
  try {
    return await askGateway(place, new URL(`http://127.0.0.1:${port}${path}`), {}, new AbortController().signal);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('an answer comes with its status; a redirect is not followed', async () => {
  assert.deepEqual(await ask((_request, response) => void response.writeHead(500).end('<a/>')), {
    status: 500,
    text: '<a/>',
  });
  let asked = 0;
  const redirect: RequestListener = (_request, response) => {
    asked++;
    response.writeHead(302, { Location: '/there' }).end();
  };
  assert.equal((await ask(redirect))?.status, 302);
  assert.equal(asked, 1);
});

test('an answer that trickles is given up, even if it would end', async () => {
  let timer: NodeJS.Timeout | undefined;
  const answer = await ask((_request, response) => {
    let bytes = 0;
    timer = setInterval(() => {
      if (++bytes < 150) response.write(' ');
      else response.end();
    }, 100);
  });
  clearInterval(timer);
  assert.equal(answer, undefined);
});

test('an answer that breaks off, a long head and a closed port are no answer', async () => {
  const broken: RequestListener = (request, response) => {
    response.writeHead(200, { 'Content-Length': '100' });
    response.write('<a', () => request.socket.destroy());
  };
  assert.equal(await ask(broken), undefined);
  assert.equal(await ask((_request, response) => void response.setHeader('X', 'x'.repeat(20_000)).end()), undefined);
  const place = { gateway: '127.0.0.1', own: '127.0.0.1' };
  assert.equal(await askGateway(place, new URL('http://127.0.0.1:1/'), {}, new AbortController().signal), undefined);
});

test('a switch to another protocol is no answer', { timeout: 180_000 }, async () => {
  const upgraded: RequestListener = (request) =>
    void request.socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n');
  assert.equal(await ask(upgraded), undefined);
});
