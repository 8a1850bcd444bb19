/** Servers whose answer does not fit the Range. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { HttpClient } from '../../src/http/client.ts';
import { serve } from '../support/odd-server.ts';
import { Collector, NAR } from './fixture.ts';

const sizeBytes = NAR.length;
const HELD = 70_000;

type Answer = (response: ServerResponse, from: number, to: number) => void;

const send = (response: ServerResponse, status: number, body: Uint8Array, headers: Record<string, string> = {}): void =>
  void response.writeHead(status, { 'content-length': body.length, ...headers }).end(body);
const contentRange = (from: number, to: number, total: number | string = sizeBytes): Record<string, string> => ({
  'content-range': `bytes ${from}-${to - 1}/${total}`,
});

/** Answers that do not fit a Range. Without a Range, each server sends the whole file. */
const SERVERS: Record<string, Answer> = {
  '200 with a part and no Content-Range': (response, from, to) => send(response, 200, NAR.subarray(from, to)),
  '200 with a part in chunks': (response, from, to) => void response.writeHead(200).end(NAR.subarray(from, to)),
  '200 with another part': (response, from, to) =>
    send(response, 200, NAR.subarray(from + 10, to), contentRange(from + 10, to)),
  '206 without Content-Range': (response, from, to) => send(response, 206, NAR.subarray(from, to)),
  '206 of later bytes': (response, from, to) =>
    send(response, 206, NAR.subarray(from + 10, to), contentRange(from + 10, to)),
  '206 that is longer than it says': (response, from, to) => send(response, 206, NAR, contentRange(from, to)),
  '206 in chunks, longer than it says': (response, from, to) =>
    void response.writeHead(206, contentRange(from, to)).end(Buffer.concat([NAR.subarray(from, to), NAR])),
  '206 of another file': (response, from, to) =>
    send(response, 206, NAR.subarray(from, to), contentRange(from, to, sizeBytes + 1)),
  '206 in several parts': (response, from, to) =>
    send(response, 206, NAR.subarray(from, to), { 'content-type': 'multipart/byteranges; boundary=x' }),
  '206 that is encoded': (response, from, to) =>
    send(response, 206, gzipSync(NAR.subarray(from, to)), { 'content-encoding': 'gzip', ...contentRange(from, to) }),
  ...Object.fromEntries(
    [204, 400, 403, 404, 405, 416, 500, 501, 505].map((status): [string, Answer] => [
      String(status),
      (response) => send(response, status, Buffer.alloc(0)),
    ]),
  ),
};

/** Rare answers that fit. */
const GOOD: Record<string, Answer> = {
  '200 with the part and its Content-Range': (response, from, to) =>
    send(response, 200, NAR.subarray(from, to), contentRange(from, to)),
  '206 with everything': (response) => send(response, 206, NAR, contentRange(0, sizeBytes)),
  '206 from an earlier byte': (response, from, to) =>
    send(response, 206, NAR.subarray(from - 99, to), contentRange(from - 99, to)),
  '206 of a file of unknown size': (response, from, to) =>
    send(response, 206, NAR.subarray(from, to), contentRange(from, to, '*')),
  '200 with everything': (response) => send(response, 200, NAR),
};

async function startServer(answer: Answer): Promise<{ url: string; ranges: (string | undefined)[] } & AsyncDisposable> {
  const ranges: (string | undefined)[] = [];
  const server = await serve((request, response) => {
    const { range } = request.headers;
    ranges.push(range);
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    if (from === undefined) send(response, 200, NAR);
    else answer(response, Number(from), Number(to) + 1);
  });
  return { url: server.url, ranges, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function resume(client: HttpClient, url: string, end = sizeBytes): Promise<boolean> {
  const collector = new Collector(HELD);
  await client.download(url, { offset: HELD, end, sizeBytes, sink: collector.sink });
  return collector.bytes.equals(NAR.subarray(HELD, end));
}

describe('an answer that does not fit a Range', { timeout: 180_000 }, () => {
  for (const [name, answer] of Object.entries(SERVERS)) {
    it(`is not a failure, and happens once: ${name}`, async () => {
      await using server = await startServer(answer);
      await using client = new HttpClient({ retries: 0 });
      assert.ok(await resume(client, `${server.url}/a`));
      assert.ok(await resume(client, `${server.url}/b`));
      assert.deepEqual(server.ranges, [`bytes=${HELD}-${sizeBytes - 1}`, undefined, undefined]);
    });
  }

  for (const [name, answer] of Object.entries(GOOD)) {
    it(`is not ${name}`, async () => {
      await using server = await startServer(answer);
      await using client = new HttpClient({ retries: 0 });
      assert.ok(await resume(client, server.url));
      assert.ok(await resume(client, server.url, sizeBytes - 10));
      assert.equal(server.ranges.filter((range) => range === undefined).length, name === '200 with everything' ? 1 : 0);
    });
  }

  it('keeps its bytes if the answer without Range is cut, and continues from there', async () => {
    let answers = 0;
    await using server = await serve((request, response) => {
      if (request.headers.range !== undefined) return send(response, 416, Buffer.alloc(0));
      answers += 1;
      if (answers > 2) return send(response, 200, NAR);
      response.writeHead(200, { 'content-length': sizeBytes });
      return void response.write(NAR.subarray(0, HELD + answers * 1_000), () => response.destroy());
    });
    await using client = new HttpClient({ retries: 1, backoffMs: 1 });
    assert.ok(await resume(client, server.url)); // the sink refuses a repeated byte
    assert.equal(answers, 3);
  });

  for (const status of [503, 429]) {
    it(`may be ${status}, which does not tell: the last attempt asks for the whole file`, async () => {
      await using server = await startServer((response) => send(response, status, Buffer.alloc(0)));
      await using client = new HttpClient({ retries: 2, backoffMs: 1 });
      assert.ok(await resume(client, server.url));
      assert.deepEqual(server.ranges.length, 3);
      assert.equal(server.ranges.at(-1), undefined);
    });
  }
});
