import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { redactUrl } from '../../src/redact.ts';
import { formatRange, parseContentLength, parseContentRange } from '../../src/http/transfer/range.ts';
import { proxiesOf } from '../../src/http/route/proxy.ts';
import { resolveRedirect } from '../../src/http/transfer/redirect.ts';
import { computeBackoffMs, parseRetryAfterMs } from '../../src/http/transfer/retry.ts';

describe('ranges', () => {
  it('are exclusive here and inclusive on the wire', () => {
    assert.equal(formatRange(10, 20), 'bytes=10-19');
    assert.equal(formatRange(10, Infinity), 'bytes=10-');
    assert.deepEqual(parseContentRange('bytes 10-19/100'), { start: 10, end: 20, sizeBytes: 100 });
    assert.deepEqual(parseContentRange('Bytes 0-0/*'), { start: 0, end: 1, sizeBytes: undefined });
  });

  for (const value of [
    undefined,
    '',
    'bytes',
    'items 0-1/2',
    'bytes 2-1/5',
    'bytes 0-5/5',
    'bytes */5',
    'bytes 0-1',
    'bytes -1-1/2',
  ]) {
    it(`ignore ${JSON.stringify(value)}`, () => assert.equal(parseContentRange(value), undefined));
  }

  it('ignore a malformed Content-Length', () => {
    assert.equal(parseContentLength('12'), 12);
    for (const value of [undefined, '', '-1', '1.5', '0x10']) assert.equal(parseContentLength(value), undefined);
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  it('is in seconds or a date, limited to 0 to 30 s', () => {
    assert.equal(parseRetryAfterMs('7', now), 7_000);
    assert.equal(parseRetryAfterMs('Thu, 01 Jan 2026 00:00:05 GMT', now), 5_000);
    assert.equal(parseRetryAfterMs('86400', now), 30_000);
    assert.equal(parseRetryAfterMs('Fri, 02 Jan 2026 00:00:00 GMT', now), 30_000);
    assert.equal(parseRetryAfterMs('Wed, 31 Dec 2025 00:00:00 GMT', now), 0);
    assert.equal(parseRetryAfterMs('soon', now), undefined);
    assert.equal(parseRetryAfterMs(undefined, now), undefined);
  });
});

describe('backoff', () => {
  it('doubles up to 10 s, with full jitter', () => {
    const longest = [1, 2, 3, 20].map((failures) => computeBackoffMs(failures, 250, () => 1));
    assert.deepEqual(longest, [250, 500, 1_000, 10_000]);
    assert.equal(
      computeBackoffMs(3, 250, () => 0.5),
      500,
    );
    assert.equal(
      computeBackoffMs(3, 250, () => 0),
      0,
    );
  });
});

describe('redactUrl', () => {
  it('removes user, password, query and fragment', () => {
    assert.equal(
      redactUrl('https://user:secret@cache.example.org:8443/a?token=1#f'),
      'https://cache.example.org:8443/a',
    );
  });
});

describe('resolveRedirect', () => {
  it('keeps the bytes that the server sent, as curl does', () => {
    const from = new URL('http://cache.example.org/a/b');
    const resolve = (location: string): string => resolveRedirect(302, location, from, { redirects: 0 }).href;
    const bytes = Buffer.from('/ä b?q=ö').toString('latin1'); // as headers are read
    assert.equal(resolve(bytes), 'http://cache.example.org/%c3%a4%20b?q=%c3%b6');
    assert.equal(resolve('/\xE4'), 'http://cache.example.org/%e4');
    assert.equal(resolve('c\\d%2F'), 'http://cache.example.org/a/c%5cd%2F');
    assert.equal(resolve(Buffer.from('http://ä.example/').toString('latin1')), 'http://xn--4ca.example/');
  });

  it('leads to http and https only, also from one to the other, as in Nix', () => {
    const resolve = (location: string | undefined, from = 'https://cache.example.org/a/b'): string =>
      resolveRedirect(302, location, new URL(from), { redirects: 4 }).href;
    assert.equal(resolve('../c'), 'https://cache.example.org/c');
    assert.equal(resolve('https://cdn.example.org/'), 'https://cdn.example.org/');
    assert.equal(resolve('http://cdn.example.org/a'), 'http://cdn.example.org/a');
    assert.equal(resolve('https://h/', 'http://h/'), 'https://h/');
    for (const location of ['file:///etc/passwd', 'ftp://cdn.example.org/a', 'data:,x'])
      assert.throws(() => resolve(location), /not an http or https address/, location);
    assert.throws(() => resolve(undefined), /Location/);
  });
});

describe('the proxies of the environment, as curl reads them', () => {
  it('apply to one scheme each, and all_proxy to the others', () => {
    const { http, https } = proxiesOf({ http_proxy: 'proxy.test:3128', ALL_PROXY: 'socks5://socks.test' }) ?? {};
    assert.deepEqual([http, https], ['http://proxy.test:3128/', 'socks5://socks.test']);
    assert.equal(proxiesOf({ http_proxy: 'http://proxy.test' })?.https, undefined);
    assert.equal(proxiesOf({ HTTP_PROXY: 'http://proxy.test', https_proxy: '' }), undefined);
    assert.equal(proxiesOf({ http_proxy: 'socks5h://u:p@socks.test:1080' })?.http, 'socks5://u:p@socks.test:1080');
    for (const http_proxy of ['ftp://proxy.test', 'socks4://proxy.test', 'http://[', ':'])
      assert.throws(() => proxiesOf({ http_proxy }), { code: 'HTTP_FAILED', message: /http_proxy/ }, http_proxy);
  });

  const passed: readonly (readonly [noProxy: string, passing: readonly string[], proxied: readonly string[]])[] = [
    ['*', ['http://a.test'], []],
    ['a.test, .b.test', ['http://A.test', 'http://x.a.test', 'https://b.test'], ['http://ba.test', 'http://a.test.c']],
    ['a.test:81', ['http://a.test:81'], ['http://a.test']],
    ['10.0.0.0/8 ::1', ['http://10.1.2.3', 'http://[::1]:80'], ['http://11.0.0.1', 'http://[::2]', 'http://10.test']],
    ['10.0.0.0/99,1/2/3,/,[', [], ['http://10.0.0.0']],
  ];
  for (const [noProxy, passing, proxied] of passed) {
    it(`pass by the hosts in no_proxy = ${noProxy}`, () => {
      const proxies = proxiesOf({ http_proxy: 'http://proxy.test', NO_PROXY: noProxy });
      const isPassing = (url: string): boolean | undefined => proxies?.passesBy(new URL(url));
      assert.deepEqual(passing.filter(isPassing), passing);
      assert.deepEqual(proxied.filter(isPassing), []);
    });
  }
});
