import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseUpstream } from '../../src/http/upstream.ts';

describe('parseUpstream', () => {
  it('keeps the path, drops query, fragment and trailing slashes', () => {
    assert.equal(parseUpstream('https://cache.example.org').url, 'https://cache.example.org');
    assert.equal(parseUpstream('https://cache.example.org/a/b/?priority=40#x').url, 'https://cache.example.org/a/b');
    assert.equal(parseUpstream(' http://[::1]:8080// ').url, 'http://[::1]:8080');
  });

  it('names narinfos and NARs', () => {
    const upstream = parseUpstream('http://user:pw@127.0.0.1:8080/cache/');
    assert.equal(upstream.narInfoUrl('0abc'), 'http://user:pw@127.0.0.1:8080/cache/0abc.narinfo');
    assert.equal(upstream.narUrl('nar/1x.nar.xz'), 'http://user:pw@127.0.0.1:8080/cache/nar/1x.nar.xz');
    assert.match(upstream.narUrl('nar/1x.nar?hash=0abc'), /\/cache\/nar\/1x\.nar\?hash=0abc$/);
    assert.match(upstream.narUrl('nar/..a.nar'), /\/cache\/nar\/\.\.a\.nar$/);
  });

  for (const text of ['', 'cache.nixos.org', 'file:///nix/cache', 's3://bucket', 'ftp://host/', 'daemon', 'http://']) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseUpstream(text), { code: 'USAGE', message: /http:\/\/ or https:\/\// });
    });
  }

  const upstream = parseUpstream('http://127.0.0.1/cache');
  const hostile = [
    '',
    '/nar/x',
    '//evil/x',
    'http://evil/x',
    'nar:x',
    '..',
    '.',
    '../x',
    'nar/../../x',
    'nar/..',
    'nar/.',
  ];
  const tricks = [
    'nar/%2e%2e/x',
    'nar/%2f',
    '%252e%252e/x',
    'nar\\..\\x',
    'nar//x',
    'nar/',
    'nar/x#y',
    'a b',
    'x\n',
    '..?x',
    '?x',
  ];
  for (const relative of [...hostile, ...tricks, '.\t./x', 'nar/x?a/../b', 'nar/\u2025/x']) {
    it(`keeps ${JSON.stringify(relative)} from leading out of the cache`, () => {
      assert.throws(() => upstream.narUrl(relative), { code: 'NARINFO_INVALID' });
    });
  }

  it('takes no exponential time over a hostile URL', { timeout: 1_000 }, () => {
    assert.throws(() => upstream.narUrl(`${'a/'.repeat(20_000)}%`), { code: 'NARINFO_INVALID' });
    assert.throws(() => upstream.narUrl(`${'a'.repeat(40_000)}%`), { code: 'NARINFO_INVALID' });
  });
});
