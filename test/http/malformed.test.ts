/** Servers that send malformed HTTP, or another protocol. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HttpClient } from '../../src/http/client.ts';
import { isNarswarmError } from '../../src/errors.ts';
import { serveText } from '../support/odd-server.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
const ANSWERS: Record<string, string> = {
  'nothing at all': '',
  'another protocol': 'SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n',
  'control characters': '\u001B[31m NOT HTTP\r\n\r\n\0\0\0',
  'a NUL in a header': `${OK}X: \0\r\nContent-Length: 0\r\n\r\n`,
  'a broken chunk': `${OK}Transfer-Encoding: chunked\r\n\r\nZZZ\r\nhello\r\n`,
  'a chunk that is cut': `${OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhe`,
  'two lengths': `${OK}Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!`,
  'a negative length': `${OK}Content-Length: -1\r\n\r\n`,
  'another version': 'HTTP/9.9 200 OK\r\n\r\n',
  'status 99999': 'HTTP/1.1 99999 OK\r\n\r\n',
  'status 999': 'HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n',
  'an upgrade': 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  'interim answers without end': 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(5_000),
  'a header without end': `${OK}X: ${'a'.repeat(1_000_000)}`,
  'headers without end': `${OK}${'X: a\r\n'.repeat(100_000)}`,
  'a redirect to nowhere': 'HTTP/1.1 302 Found\r\nLocation: http://\r\n\r\n',
};

/** Answers that curl accepts, and what it reads. */
const LAX: Record<string, string> = {
  'lines without a carriage return': 'HTTP/1.1 200 OK\nContent-Length: 5\n\nhello',
  'one line without a carriage return': `${OK}Server: x\nContent-Length: 5\r\n\r\nhello`,
  'chunks without carriage returns': `${OK}Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n`,
  'a folded header': `${OK}X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello`,
  'a control character in a header': `${OK}X: \u001B[31m\r\nContent-Length: 5\r\n\r\nhello`,
  'a header with a strange name': `${OK}X Y : z\r\nContent-Length: 5\r\n\r\nhello`,
  'a length and chunks': `${OK}Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
  'headers of 200 kB': `${OK}Content-Length: 5\r\n${`X: ${'a'.repeat(1_000)}\r\n`.repeat(200)}\r\nhello`,
};

describe('an answer that curl accepts', { timeout: 180_000 }, () => {
  for (const [name, text] of Object.entries(LAX)) {
    it(`is read: ${name}`, async () => {
      await using server = await serveText(text);
      await using client = new HttpClient({ retries: 0 });
      const bytes = await client.getBytes(`${server.url}/x`, { maxBytes: 100 });
      assert.equal(Buffer.from(bytes ?? []).toString(), 'hello');
    });
  }
});

describe('an answer that is not HTTP', { timeout: 180_000 }, () => {
  for (const [name, text] of Object.entries(ANSWERS)) {
    it(`counts as an ordinary failure of the server: ${name}`, async () => {
      await using server = await serveText(text);
      await using client = new HttpClient({ retries: 1, backoffMs: 1 });
      const check = (error: unknown): boolean => {
        assert.ok(isNarswarmError(error, 'HTTP_FAILED', 'HTTP_TRUNCATED'), String(error));
        assert.match(error.message, /^http:\/\/127\.0\.0\.1:\d+\/x failed after \d attempts?: [^\n]+$/);
        return true;
      };
      await assert.rejects(client.getBytes(`${server.url}/x`, { maxBytes: 100 }), check);
      await assert.rejects(client.getIfChanged(`${server.url}/x`, { maxBytes: 100 }), check);
      await assert.rejects(client.download(`${server.url}/x`, { sink: () => undefined, sizeBytes: 9 }), check);
      assert.ok(server.connections() <= 10);
    });
  }
});
