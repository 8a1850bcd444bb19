import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { asAnnounced, parseUpstream, uniqueUpstreams } from '../../src/http/upstream.ts';

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

  it('leads nowhere else if nobody has configured it', () => {
    const upstream = asAnnounced(parseUpstream('http://10.0.0.5:5000/cache'));
    assert.equal(upstream.narUrl('nar/1x.nar?hash=0abc'), 'http://10.0.0.5:5000/cache/nar/1x.nar?hash=0abc');
    for (const url of ['http://127.0.0.1/admin', '//127.0.0.1/admin', '/admin', '../admin', 'nar/%2e%2e/%2e%2e/admin'])
      assert.throws(() => upstream.narUrl(url), { code: 'NARINFO_INVALID' });
  });

  for (const text of ['', 'cache.nixos.org', 'ftp://host/', 'http://', 'file://host/cache']) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseUpstream(text), { code: 'USAGE', message: /http:\/\/ or https:\/\/.*folder/ });
    });
  }

  it('names the way out for stores that it cannot read', () => {
    assert.throws(() => parseUpstream('s3://bucket?region=x'), { code: 'USAGE', message: /address of the bucket/ });
    for (const text of ['ssh://host', 'ssh-ng://me:pw@host'])
      assert.throws(() => parseUpstream(text), { code: 'USAGE', message: /^ssh(-ng)?:\/\/host .*nix copy/ });
    for (const text of ['daemon', 'local', 'auto', 'local?root=/mnt', 'unix:///run/socket'])
      assert.throws(() => parseUpstream(text), { code: 'USAGE', message: /narswarm add/ });
  });

  it('accepts folders, by URL and by path', () => {
    assert.equal(parseUpstream('file:///mnt/usb%20disk/?priority=5').url, 'file:///mnt/usb%20disk');
    assert.equal(parseUpstream('/mnt/usb disk/').url, 'file:///mnt/usb%20disk');
    assert.equal(parseUpstream('./cache').url, `file://${process.cwd()}/cache`);
    assert.ok(parseUpstream('/mnt').isLocal);
  });

  it("reads Nix's priority and trusted", () => {
    const { priority, isTrusted } = parseUpstream('https://a.test/?priority=-5&trusted=1&want-mass-query=1');
    assert.deepEqual({ priority, isTrusted }, { priority: -5, isTrusted: true });
    assert.equal(parseUpstream('https://a.test/?trusted=yes').isTrusted, true);
    const plain = parseUpstream('https://a.test/?priority=x&trusted=0');
    assert.deepEqual([plain.priority, plain.isTrusted], [undefined, false]);
  });

  it('recognises the same cache in all its spellings', () => {
    const texts = [
      'HTTP://A.test:80/',
      'http://a.test?priority=9&trusted=1',
      'http://b.test',
      'http://a.test/?priority=5',
    ];
    const unique = uniqueUpstreams(texts.map((text) => parseUpstream(text)));
    assert.deepEqual(
      unique.map(({ url, priority, isTrusted }) => [url, priority, isTrusted]),
      [
        ['http://a.test', 5, true],
        ['http://b.test', undefined, false],
      ],
    );
  });
});

describe("a narinfo's URL", () => {
  const cache = parseUpstream('http://me:pw@a.test/cache');
  const places: [reference: string, target: string][] = [
    ['nar/x.nar.xz', 'http://me:pw@a.test/cache/nar/x.nar.xz'],
    ['x/../nar/y', 'http://me:pw@a.test/cache/nar/y'],
    ['../nar/y', 'http://me:pw@a.test/nar/y'],
    ['../../../nar/y', 'http://me:pw@a.test/nar/y'],
    ['/nar/y', 'http://me:pw@a.test/nar/y'],
    ['n%61r/a%2Fb', 'http://me:pw@a.test/cache/n%61r/a%2Fb'],
    ['nar/sha256:abc@1,2.nar', 'http://me:pw@a.test/cache/nar/sha256:abc@1,2.nar'],
    ['sha256:abc.nar', 'http://me:pw@a.test/cache/sha256:abc.nar'],
    ['mailto:abc', 'http://me:pw@a.test/cache/mailto:abc'],
    ['nar/x?X-Amz-Credential=a/b&c=d%2F', 'http://me:pw@a.test/cache/nar/x?X-Amz-Credential=a/b&c=d%2F'],
    ['http://a.test/nar/y', 'http://a.test/nar/y'],
    ['HTTPS://other.test/y?s=1', 'https://other.test/y?s=1'],
    ['//other.test/y', 'http://other.test/y'],
    ['nar/a b', 'http://me:pw@a.test/cache/nar/a%20b'],
    ['\\\\other.test\\y', 'http://me:pw@a.test/cache///other.test/y'],
  ];
  for (const [reference, target] of places) {
    it(`leads from a server anywhere over http(s): ${reference}`, () => {
      assert.equal(cache.narUrl(reference), target);
    });
  }

  for (const reference of ['file:///etc/passwd', 'ftp://a.test/x', 'javascript://x', 'http://[', 's3://bucket/x']) {
    it(`does not leave http and https: ${reference}`, () => {
      assert.throws(() => cache.narUrl(reference), { code: 'NARINFO_INVALID' });
    });
  }

  const folder = parseUpstream('file:///mnt/a%20b');
  it('is the literal name of a file in a folder', () => {
    assert.equal(fileURLToPath(folder.narUrl('nar/x?y#z%2F')), '/mnt/a b/nar/x?y#z%2F');
    assert.equal(fileURLToPath(folder.narUrl('/nar/x')), '/mnt/a b/nar/x');
    assert.equal(fileURLToPath(folder.narUrl('x/../nar/y')), '/mnt/a b/nar/y');
  });

  for (const reference of [
    '../x',
    '..',
    '.',
    'nar/../../x',
    '../a b',
    '../a bc/x',
    'http://a.test/x',
    'file:///etc/passwd',
  ]) {
    it(`does not leave the folder: ${reference}`, () => {
      assert.throws(() => folder.narUrl(reference), { code: 'NARINFO_INVALID' });
    });
  }
});
