import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { HttpClient } from '../../../src/http/client.ts';
import { isNarswarmError } from '../../../src/errors.ts';
import type { FuzzTarget } from '../target.ts';

const BODY = 'StorePath: /nix/store/2s4q97y13dynyhi482033jrx8vka36yx-top\n';
const OK = 'HTTP/1.1 200 OK\r\n';
const SOUND = [
  `${OK}Content-Length: ${BODY.length}\r\n\r\n${BODY}`,
  `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  `HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/60\r\nContent-Length: 5\r\n\r\nhello`,
  'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
  `HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n`,
  `${OK}ETag: "x"\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello`,
].map((text) => Buffer.from(text));
const compressed = gzipSync(BODY);
const head = `${OK}Content-Encoding: gzip\r\nContent-Length: ${compressed.length}\r\n\r\n`;

/** Answers of servers, over real connections: each is accepted, or counts as a failure of the server. */
export async function http(): Promise<FuzzTarget> {
  let answer: Buffer = Buffer.alloc(0);
  const server = createServer((socket) => {
    socket.on('error', () => undefined).once('data', () => socket.end(answer, () => socket.destroySoon()));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new HttpClient({ retries: 0, backoffMs: 0, stallTimeoutMs: 5000 });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  let count = 0;
  return {
    corpus: [...SOUND, Buffer.concat([Buffer.from(head), compressed])],
    words: [
      '\r\n',
      '\r\n\r\n',
      'Content-Length: ',
      'Transfer-Encoding: chunked\r\n',
      'Content-Range: bytes ',
      '0\r\n\r\n',
    ],
    async read(input) {
      answer = input;
      try {
        if (count++ % 2 === 0) await client.getBytes(`${url}/x`, { maxBytes: 1000 });
        else await client.download(`${url}/x`, { sizeBytes: BODY.length, sink: () => undefined });
      } catch (error) {
        assert.ok(
          isNarswarmError(error, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED', 'HTTP_NOT_FOUND', 'SIZE_MISMATCH'),
        );
      }
    },
    async finish() {
      answer = SOUND[0]!;
      const bytes = await client.getBytes(`${url}/x`, { maxBytes: 1000 });
      assert.equal(Buffer.from(bytes ?? []).toString(), BODY);
      server.close();
    },
  };
}
