import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { giveBack, isLent, lend } from '../../../src/bytes/lent-buffers.ts';
import { connectLent } from '../../../src/http/connection/lent-reads.ts';

const BYTES = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7 + (index >> 9)) & 0xff));

async function serve(t: TestContext): Promise<{ host: string; port: number }> {
  const server = createServer((socket) => socket.on('error', () => undefined).end(BYTES)).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

test('bytes come in order, lent, and may be kept by one more user', { timeout: 180_000 }, async (t) => {
  const socket = connectLent(await serve(t));
  const kept: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => {
    assert.ok(isLent(bytes));
    lend(bytes);
    kept.push(bytes);
  });
  await once(socket, 'close');
  assert.ok(Buffer.concat(kept).equals(BYTES)); // none was overwritten by a later read
  const joined = kept.filter((bytes, index) => {
    const before = kept[index - 1];
    return before?.buffer === bytes.buffer && before.byteOffset + before.length === bytes.byteOffset;
  });
  assert.ok(kept.length === 1 || joined.length > 0, 'adjacent bytes are adjacent in a buffer');
  for (const bytes of kept) giveBack(bytes);
  for (const bytes of kept) assert.ok(!isLent(bytes), 'the socket keeps none');
});

test('a paused socket reads nothing', { timeout: 180_000 }, async (t) => {
  const socket = connectLent(await serve(t));
  let received = 0;
  const isFirst = Promise.withResolvers<void>();
  socket.on('data', (bytes: Buffer) => {
    received += bytes.length;
    socket.pause();
    isFirst.resolve();
  });
  await isFirst.promise;
  const before = received;
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(received, before);
  socket.removeAllListeners('data').on('data', (bytes: Buffer) => (received += bytes.length));
  socket.resume();
  await once(socket, 'close');
  assert.equal(received, BYTES.length);
});
