import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import type { Dispatcher } from 'undici';
import { SocketAnswer } from '../../src/http/socket-answer.ts';

/** Far more resumptions than a healthy reader causes. A spinning reader has no other limit. */
const MANY = 1_000;

test('a chunk of 0 bytes, which undici’s parser reports if it is resumed, causes no more resumptions', async () => {
  let handler: Dispatcher.DispatchHandler | undefined;
  let resumptions = 0;
  const controller = {
    paused: false,
    pause: () => void (controller.paused = true),
    resume() {
      controller.paused = false;
      if (resumptions++ < MANY) handler?.onResponseData?.(controller as never, Buffer.alloc(0));
    },
    abort: () => undefined,
  };
  const dispatcher = { dispatch: (_: unknown, given: Dispatcher.DispatchHandler) => void (handler = given) };
  const answering = SocketAnswer.get(dispatcher as unknown as Dispatcher, new URL('http://cache.test/nar'), {
    headers: {},
    bodyTimeoutMs: 1_000,
    signal: new AbortController().signal,
  });
  handler?.onResponseStart?.(controller as never, 200, {}, 'OK');
  const chunks: string[] = [];
  const reading = (await answering).read(async (chunk) => {
    await Promise.resolve(); // the disk
    chunks.push(chunk.toString());
  });
  handler?.onResponseData?.(controller as never, Buffer.from('slow'));
  await turn();
  assert.ok(resumptions < 3, `resumed ${resumptions} times for one chunk`);
  handler?.onResponseData?.(controller as never, Buffer.from('server'));
  handler?.onResponseEnd?.(controller as never, {});
  await reading;
  assert.deepEqual(chunks, ['slow', 'server']);
});
