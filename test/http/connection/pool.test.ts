import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test, suite } from 'node:test';
import { HttpClient } from '../../../src/http/client.ts';

/** A server that calls `answer` with each request, its number on the connection, and the connection. */
async function serve(answer: (socket: Socket, request: number) => void, connectionsPerOrigin = 3) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let requests = 0;
    socket.on('error', () => undefined);
    socket.on('data', () => answer(socket, ++requests));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new HttpClient({ backoffMs: 1, retries: 2, connectionsPerOrigin });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`,
    sockets,
    client,
    async [Symbol.asyncDispose]() {
      await client.close();
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const get = async (client: HttpClient, url: string): Promise<string> =>
  Buffer.from((await client.getBytes(url, { maxBytes: 100 })) ?? []).toString();

suite('connections to a server', () => {
  test('serve one request after another', async () => {
    await using server = await serve((socket) => void socket.write(OK));
    for (let turn = 0; turn < 5; turn++) assert.equal(await get(server.client, server.url), 'ok');
    assert.equal(server.sockets.length, 1);
  });

  test('serve a NAR alone that is not short, if asked to', async () => {
    const seen: string[] = [];
    const sizeBytes = 300_000;
    await using server = await serve((socket) => {
      socket.once('data', () => undefined);
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${sizeBytes}\r\n\r\n`);
      socket.write(Buffer.alloc(sizeBytes));
    });
    for (const lonelyNars of [true, false]) {
      await using client = new HttpClient({ lonelyNars, retries: 0 });
      for (let turn = 0; turn < 2; turn++) {
        const sink = (): void => undefined;
        await client.download(server.url, { sizeBytes, maxBytes: sizeBytes, sink, onProgress: () => undefined });
      }
      seen.push(`${lonelyNars}: ${server.sockets.length}`);
    }
    assert.deepEqual(seen, ['true: 2', 'false: 3']);
  });

  test('are as many as allowed', async () => {
    const waiting: Socket[] = [];
    await using server = await serve((socket) => {
      waiting.push(socket);
      if (waiting.length >= 3) for (const one of waiting.splice(0)) one.write(OK);
    });
    const { client, url } = server;
    assert.deepEqual(await Promise.all(Array.from({ length: 9 }, () => get(client, url))), Array(9).fill('ok'));
    assert.equal(server.sockets.length, 3);
  });

  test('are not used again after an answer with more bytes than its length', async () => {
    let reuses = 0;
    await using server = await serve((socket, request) => {
      if (request > 1) reuses++;
      socket.write(`${OK}${OK}`);
    });
    for (let turn = 0; turn < 3; turn++) assert.equal(await get(server.client, server.url), 'ok');
    assert.equal(reuses, 0);
    assert.equal(server.sockets.length, 3);
  });

  test('are not used again after an answer that a proxy could read in another way', async () => {
    const chunked = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n';
    const bare = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n';
    for (const text of [chunked, bare]) {
      await using server = await serve((socket) => void socket.write(text));
      for (let turn = 0; turn < 2; turn++) assert.equal(await get(server.client, server.url), 'ok');
      assert.equal(server.sockets.length, 2);
    }
  });

  test('are replaced if the server closed them meanwhile', async () => {
    await using server = await serve((socket, request) => (request === 1 ? socket.write(OK) : socket.destroy()));
    for (let turn = 0; turn < 3; turn++) assert.equal(await get(server.client, server.url), 'ok');
  });

  test('are replaced without a retry if the server closes them while the next request is on its way', async () => {
    await using server = await serve((socket, request) =>
      request === 1 ? socket.write(OK) : socket.resetAndDestroy(),
    );
    const single = { maxBytes: 9, retries: 0 };
    for (let turn = 0; turn < 3; turn++) assert.ok(await server.client.getBytes(server.url, single));
    assert.equal(server.sockets.length, 3);
    // as a server that was restarted: all connections are dead at once
    const all = Array.from({ length: 9 }, () => server.client.getBytes(server.url, single));
    for (const bytes of await Promise.all(all)) assert.ok(bytes);
  });

  test('are not replaced if they never served a request, or after a part of the answer', async () => {
    let requests = 0;
    await using server = await serve((socket) => {
      requests++;
      if (requests === 1) socket.destroy();
      else if (requests === 2) socket.write(OK);
      else socket.end('HTTP/1.1 200');
    });
    const single = { maxBytes: 9, retries: 0 };
    await assert.rejects(server.client.getBytes(server.url, single), { code: 'HTTP_FAILED' });
    assert.ok(await server.client.getBytes(server.url, single));
    await assert.rejects(server.client.getBytes(server.url, single), { code: 'HTTP_FAILED' });
    assert.equal(requests, 3);
  });

  test('are given up after an answer that ends early', async () => {
    let requests = 0;
    await using server = await serve((socket) => {
      requests++;
      socket.end(requests === 1 ? 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok' : OK);
    });
    assert.equal(await get(server.client, server.url), 'ok');
    assert.equal(requests, 2);
  });

  test('go on with the next request while the bytes of the last one are still being taken', async () => {
    await using server = await serve((socket) => void socket.write(OK), 1);
    const { client, url, sockets } = server;
    const disk = Promise.withResolvers<void>();
    const slow = client.download(url, { sink: () => disk.promise, sizeBytes: 2 });
    assert.equal(await get(client, url), 'ok');
    assert.equal(sockets.length, 1, 'a connection that is held back would be replaced');
    disk.resolve();
    await slow;
  });
});
