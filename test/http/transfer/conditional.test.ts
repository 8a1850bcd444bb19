import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Handler, startSite } from '../../support/http-site.ts';
import { CACHE_INFO, STALL_MS, startFixture } from '../fixture.ts';

const MODIFIED = 'Sat, 31 Jan 2026 03:00:00 GMT';
const answerWith =
  (headers: Record<string, string>, body = 'body'): Handler =>
  (_request, response) =>
    void response.writeHead(200, headers).end(body);
const answerUnchanged: Handler = (_request, response) => void response.writeHead(304).end();

describe('getIfChanged', { timeout: 180_000 }, () => {
  it('returns the body with its validators, and later reports it as unchanged', async () => {
    await using site = await startSite(answerWith({ etag: '"one"', 'last-modified': MODIFIED }));
    const first = await site.client.getIfChanged(`${site.url}/list`, { maxBytes: 10 });
    assert.ok(first.kind === 'changed');
    assert.equal(Buffer.from(first.bytes).toString(), 'body');
    assert.deepEqual([first.validators.etag, first.validators.lastModified], ['"one"', MODIFIED]);
    assert.equal(site.requests[0]?.headers['if-none-match'], undefined);

    site.handler = answerUnchanged;
    const { validators } = first;
    const second = await site.client.getIfChanged(`${site.url}/list`, { maxBytes: 10, validators });
    assert.deepEqual(second, { kind: 'unchanged' });
    assert.equal(site.requests[1]?.headers['if-none-match'], '"one"');
    assert.equal(site.requests[1]?.headers['if-modified-since'], MODIFIED);

    site.handler = answerWith({ etag: '"two"' }, 'other');
    const third = await site.client.getIfChanged(`${site.url}/list`, { maxBytes: 10, validators });
    assert.ok(third.kind === 'changed' && Buffer.from(third.bytes).toString() === 'other');
    assert.deepEqual(third.validators, { address: validators.address, etag: '"two"' });
  });

  it('asks without conditions if a redirect leads to another address than before', async () => {
    await using site = await startSite((request, response) => {
      const location = request.url === '/channel' ? '/release-1' : undefined;
      if (location === undefined) response.writeHead(200, { 'last-modified': MODIFIED }).end('1');
      else response.writeHead(302, { location }).end();
    });
    const first = await site.client.getIfChanged(`${site.url}/channel`, { maxBytes: 10 });
    assert.ok(first.kind === 'changed');
    const { validators } = first;
    const again = () => site.client.getIfChanged(`${site.url}/channel`, { maxBytes: 10, validators });
    assert.equal((await again()).kind, 'changed');
    const conditions = site.requests.map(({ url, headers }) => [url, headers['if-modified-since']]);
    assert.deepEqual(conditions.slice(2), [
      ['/channel', undefined],
      ['/release-1', MODIFIED],
    ]);

    site.handler = (request, response) => {
      if (request.url === '/channel') response.writeHead(302, { location: '/release-2' }).end();
      else if (request.headers['if-modified-since'] === undefined) response.writeHead(200).end('2');
      else response.writeHead(304).end();
    };
    const next = await again();
    assert.ok(next.kind === 'changed' && Buffer.from(next.bytes).toString() === '2');
  });

  it('keeps the secrets of an address out of the validators', async () => {
    await using site = await startSite(answerWith({ etag: '"one"' }));
    const url = `${site.url.replace('//', '//user:secret@')}/list?token=secret`;
    const answer = await site.client.getIfChanged(url, { maxBytes: 10 });
    assert.ok(!JSON.stringify(answer).includes('secret'));
  });

  it('refuses a 304 to a request without conditions', async () => {
    await using site = await startSite(answerUnchanged);
    const unasked = { maxBytes: 10, validators: undefined };
    await assert.rejects(site.client.getIfChanged(site.url, unasked), { code: 'HTTP_FAILED', message: /answered 304/ });
    site.handler = answerWith({});
    const answer = await site.client.getIfChanged(site.url, unasked);
    assert.ok(answer.kind === 'changed');
    site.handler = answerUnchanged;
    const bare = { maxBytes: 10, validators: answer.validators };
    await assert.rejects(site.client.getIfChanged(site.url, bare), { code: 'HTTP_FAILED' });
    assert.equal(site.requests.length, 3);
  });

  it('is as patient and as strict as getBytes', async () => {
    await using fixture = await startFixture({ retries: 3, stallTimeoutMs: STALL_MS });
    const get = (maxBytes: number) => fixture.client.getIfChanged(fixture.infoUrl, { maxBytes });
    fixture.cache.faults = [
      { kind: 'status', times: 1 },
      { kind: 'cut', afterBytes: 5, times: 1 },
      { kind: 'stall-headers', times: 1 },
    ];
    const answer = await get(100);
    assert.ok(answer.kind === 'changed' && CACHE_INFO.equals(answer.bytes));
    assert.equal(fixture.cache.requests.length, 4);
    await assert.rejects(get(CACHE_INFO.length - 1), { code: 'SIZE_MISMATCH' });
    for (const status of [403, 404, 410]) {
      fixture.cache.faults = [{ kind: 'status', status }];
      assert.deepEqual(await get(100), { kind: 'absent' });
    }
    fixture.cache.faults = [{ kind: 'status', status: 503 }];
    await assert.rejects(get(100), { code: 'HTTP_FAILED' });
    await assert.rejects(
      fixture.client.getIfChanged(fixture.infoUrl, { maxBytes: 1, signal: AbortSignal.abort(new Error('enough')) }),
      { message: 'enough' },
    );
  });
});
