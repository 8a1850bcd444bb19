import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { takeBuffer } from '../../../src/bytes/lent-buffers.ts';
import { openSender } from '../../../src/http/connection/pool-sender.ts';
import { SocketAnswer } from '../../../src/http/connection/socket-answer.ts';

/** Asks a server that answers a request like this. */
async function ask(t: TestContext, answer: (socket: Socket) => void): Promise<SocketAnswer> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => answer(socket));
  }).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const sender = openSender(
    {},
    {
      connectionsPerOrigin: 1,
      connectTimeoutMs: 5_000,
      giveUpMs: 5_000,
      stallTimeoutMs: 5_000,
      caFile: undefined,
    },
  );
  t.after(() => sender.destroy());
  const target = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`);
  const { signal } = new AbortController();
  return SocketAnswer.get(sender, target, {
    headers: {},
    bodyTimeoutMs: 5_000,
    isShort: false,
    isNar: false,
    isLast: false,
    signal,
  });
}

/** Lets everything arrive that has been sent. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 500; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test('a body that waits for its taker is not overwritten', { timeout: 180_000 }, async (t) => {
  const body = Buffer.from(Array.from({ length: 2_000_000 }, (_, index) => (index * 11 + (index >> 7)) & 0xff));
  let received = 0;
  const answer = await ask(t, (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
  });
  await settle();
  for (let others = 0; others < 8; others++) takeBuffer(64 * 1024).fill(0xee); // what nobody uses is used again
  await answer.read((chunk) => {
    assert.ok(chunk.equals(body.subarray(received, received + chunk.length)), `from byte ${received} on`);
    received += chunk.length;
  });
  assert.equal(received, body.length);
});

test('what has arrived before the connection broke is taken, then the failure', { timeout: 180_000 }, async (t) => {
  const chunks: string[] = [];
  const broken = (): Promise<SocketAnswer> =>
    ask(t, (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.'));
  const answer = await broken();
  await settle();
  await assert.rejects(
    answer.read((chunk) => void chunks.push(chunk.toString())),
    /the connection broke inside the body/,
  );
  assert.deepEqual(chunks, ['ten bytes.']);

  const full = new Error('disk full');
  const other = await broken();
  await settle();
  const refusal = other.read(() => {
    throw full;
  });
  await assert.rejects(refusal, full);
});
