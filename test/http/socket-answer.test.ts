import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { takeBuffer } from '../../src/bytes/lent-buffers.ts';
import { openSender } from '../../src/http/pool-sender.ts';
import { SocketAnswer } from '../../src/http/socket-answer.ts';

test('a body that waits for its taker is not overwritten', { timeout: 20_000 }, async (t) => {
  const body = Buffer.from(Array.from({ length: 2_000_000 }, (_, index) => (index * 11 + (index >> 7)) & 0xff));
  let received = 0;
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
      socket.write(body);
    });
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
  const signal = new AbortController().signal;
  const answer = await SocketAnswer.get(sender, target, {
    headers: {},
    bodyTimeoutMs: 5_000,
    isShort: false,
    isNar: false,
    signal,
  });
  for (let turn = 0; turn < 500; turn++) await new Promise((resolve) => setImmediate(resolve));
  for (let others = 0; others < 8; others++) takeBuffer(64 * 1024).fill(0xee); // what nobody uses is used again
  await answer.read((chunk) => {
    assert.ok(chunk.equals(body.subarray(received, received + chunk.length)), `from byte ${received} on`);
    received += chunk.length;
  });
  assert.equal(received, body.length);
});
