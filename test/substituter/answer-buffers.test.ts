/** The buffers of an answer are given to others only after the last byte was written into and read from them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { giveBack, takeBuffer } from '../../src/bytes/lent-buffers.ts';
import { answerStream, CHUNK_BYTES } from '../../src/substituter/answer-buffers.ts';
import { readPort } from '../support/http-cache.ts';

const LIMIT = { timeout: 180_000 };

/** Takes what the pool has, and returns it. */
function isFree({ buffer }: Buffer): boolean {
  const taken = Array.from({ length: 64 }, () => takeBuffer(CHUNK_BYTES));
  taken.forEach(giveBack);
  return taken.some((one) => one.buffer === buffer);
}

async function untilFree(buffer: Buffer): Promise<void> {
  while (!isFree(buffer)) await turn();
}

test('a client that leaves does not free the buffer that is being filled', LIMIT, async (t) => {
  const filling = Promise.withResolvers<Buffer>();
  const filled = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<ServerResponse>();
  const server = createServer((_, response) => {
    answered.resolve(response);
    const stream = answerStream(response, async function* (take) {
      yield take(CHUNK_BYTES);
      filling.resolve(take(CHUNK_BYTES));
      await filled.promise;
    });
    pipeline(stream, response, () => undefined);
  }).listen(0, '127.0.0.1');
  t.after(() => server.close().closeAllConnections());
  await once(server, 'listening');
  const client = request({ port: readPort(server), host: '127.0.0.1' }, (answer) => answer.resume()).end();
  client.on('error', () => undefined);
  const buffer = await filling.promise;
  const response = await answered.promise;
  client.destroy();
  await once(response, 'close');
  for (let turns = 0; turns < 20; turns++) {
    await turn();
    assert.ok(!isFree(buffer));
  }
  filled.resolve();
  await untilFree(buffer);
});

test('a buffer that is still being sent is not free, although all chunks were yielded', LIMIT, async (t) => {
  const done = Promise.withResolvers<Buffer>();
  const server = createServer((_, response) => {
    const stream = answerStream(response, async function* (take) {
      const chunk = take(CHUNK_BYTES);
      yield chunk;
      done.resolve(chunk);
    });
    stream.on('data', () => undefined); // the response has not begun
    void done.promise.then(async (chunk) => {
      await once(stream, 'close');
      await turn();
      assert.ok(!isFree(chunk));
      response.end();
    });
  }).listen(0, '127.0.0.1');
  t.after(() => server.close().closeAllConnections());
  await once(server, 'listening');
  request({ port: readPort(server), host: '127.0.0.1' }, (answer) => answer.resume()).end();
  await untilFree(await done.promise);
});
