import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import zlib from 'node:zlib';
import { HttpClient } from '../../src/http/client.ts';
import { serve } from '../support/odd-server.ts';
import { Collector, NAR } from './fixture.ts';

const pipe = (program: string) => (body: Buffer) => execFileSync(program, ['-c'], { input: body });
const ENCODINGS: [name: string, encode: (body: Buffer) => Buffer][] = [
  ['gzip', (body) => zlib.gzipSync(body)],
  ['X-GZIP', (body) => zlib.gzipSync(body)],
  ['br', (body) => zlib.brotliCompressSync(body)],
  ['zstd', (body) => zlib.zstdCompressSync(body)],
  ['deflate', (body) => zlib.deflateSync(body)],
  ['xz', pipe('xz')],
  ['bzip2', pipe('bzip2')],
  ['', (body) => body],
  ['identity', (body) => body],
  ['gzip, br', (body) => zlib.brotliCompressSync(zlib.gzipSync(body))],
  ['xz, gzip', (body) => zlib.gzipSync(pipe('xz')(body))],
];

async function startServer(
  encoding: string,
  body: Buffer,
  length?: number,
): Promise<{ url: string } & AsyncDisposable> {
  return serve((_, response) => {
    const headers = { 'content-encoding': encoding, ...(length === undefined ? {} : { 'content-length': length }) };
    response.writeHead(200, headers).end(body);
  });
}

describe('Content-Encoding', { timeout: 180_000 }, () => {
  for (const [name, encode] of ENCODINGS) {
    it(`${JSON.stringify(name)} is decoded, in small files and in NARs`, async () => {
      const body = encode(NAR);
      await using server = await startServer(name, body, body.length);
      await using client = new HttpClient({ retries: 0 });
      assert.ok(NAR.equals((await client.getBytes(server.url, { maxBytes: NAR.length })) ?? Buffer.alloc(0)));
      const answer = await client.getIfChanged(server.url, { maxBytes: NAR.length });
      assert.ok(answer.kind === 'changed' && NAR.equals(answer.bytes));
      for (const offset of [0, 1_000]) {
        const collector = new Collector(offset);
        await client.download(server.url, { offset, sizeBytes: NAR.length, sink: collector.sink });
        assert.ok(collector.bytes.equals(NAR.subarray(offset)));
      }
    });
  }

  it('of a body of the expected length only describes the file', async () => {
    const file = zlib.gzipSync(NAR);
    await using server = await startServer('x-gzip', file, file.length);
    await using client = new HttpClient({ retries: 0 });
    const collector = new Collector();
    await client.download(server.url, { sizeBytes: file.length, sink: collector.sink });
    assert.ok(collector.bytes.equals(file));
  });

  it('is bounded by the decoded size, however little is sent', async () => {
    for (const [name, encode] of ENCODINGS.filter(([encoding]) => /^(gzip|br|zstd|xz|bzip2)/.test(encoding))) {
      await using server = await startServer(name, encode(Buffer.alloc(64 * 1024 * 1024)));
      await using client = new HttpClient({ retries: 0 });
      await assert.rejects(client.getBytes(server.url, { maxBytes: 100 }), { code: 'SIZE_MISMATCH' });
      let taken = 0;
      const sink = (chunk: Uint8Array): void => void (taken += chunk.length);
      await assert.rejects(client.download(server.url, { sizeBytes: 1_000, sink }), { code: 'SIZE_MISMATCH' });
      assert.ok(taken <= 1_000);
    }
  });

  it('that is unknown, invalid, cut short or one of many counts as a failure of the server', async () => {
    const broken: [encoding: string, body: Buffer][] = [
      ['snappy', NAR],
      ['gzip', NAR],
      ['gzip', zlib.gzipSync(NAR).subarray(0, 1_000)],
      ['xz', NAR],
      ['xz', pipe('xz')(NAR).subarray(0, 50)],
      ['br', NAR],
      ['gzip, gzip, gzip, gzip', NAR],
      ['toString', NAR],
    ];
    for (const [encoding, body] of broken) {
      await using server = await startServer(encoding, body);
      await using client = new HttpClient({ retries: 0 });
      await assert.rejects(client.getBytes(server.url, { maxBytes: 1e6 }), {
        code: 'HTTP_FAILED',
        message: /Content-Encoding/,
      });
    }
  });

  it('ends if the sink throws or the signal aborts', async () => {
    await using server = await startServer('gzip', zlib.gzipSync(NAR));
    await using client = new HttpClient();
    const full = new Error('disk full');
    const fails = async (): Promise<void> => Promise.reject(full);
    await assert.rejects(client.download(server.url, { sink: fails }), (error) => error === full);
    await using silent = await serve((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).write(zlib.gzipSync(NAR).subarray(0, 1_000));
    });
    const controller = new AbortController();
    setTimeout(() => controller.abort(full), 50);
    const running = client.download(silent.url, { sink: () => undefined, signal: controller.signal });
    await assert.rejects(running, (error) => error === full);
  });
});
