import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatCacheInfo, parseCacheInfo } from '../../src/nix/cache-info.ts';
import { failsWith, readFixture } from './fixtures.ts';

test('reads the file that Nix writes into a new cache', () => {
  const expected = { storeDir: '/nix/store', wantMassQuery: false, priority: 0 };
  assert.deepEqual(parseCacheInfo(readFixture('cache/nix-cache-info')), expected);
});

test('reads the files of public caches', () => {
  const expected = { storeDir: '/nix/store', wantMassQuery: true, priority: 40 };
  assert.deepEqual(parseCacheInfo('StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n'), expected);
  assert.deepEqual(parseCacheInfo('StoreDir:/nix/store\r\n\r\nPriority:  40 \r\nWantMassQuery: 1\r\nNew: x'), expected);
});

test('fills in the defaults of Nix', () => {
  assert.deepEqual(parseCacheInfo('Priority: -1'), { storeDir: '/nix/store', wantMassQuery: false, priority: -1 });
});

test('takes the last of repeated keys', () => {
  assert.equal(parseCacheInfo('Priority: 1\nPriority: 2\n').priority, 2);
});

test('refuses anything else than a nix-cache-info', () => {
  for (const text of [
    '',
    '\n',
    '<html>\n<p>StoreDir: /nix/store</p></html>',
    '{"StoreDir":"/nix/store"}',
    'storedir: /x',
  ]) {
    assert.throws(() => parseCacheInfo(text), failsWith('CACHE_INFO_INVALID', /has none of/), text);
  }
});

test('refuses a malformed StoreDir or Priority', () => {
  for (const storeDir of ['', 'nix/store', '/nix/../store', '/']) {
    assert.throws(() => parseCacheInfo(`StoreDir: ${storeDir}\n`), failsWith('CACHE_INFO_INVALID', /StoreDir is/));
  }
  for (const priority of ['', 'high', '1.5', '1e3', '0x10', '9'.repeat(20)]) {
    assert.throws(() => parseCacheInfo(`Priority: ${priority}\n`), failsWith('CACHE_INFO_INVALID', /Priority is/));
  }
});

test('parse reads back the output of format', () => {
  const info = fc.record(
    {
      storeDir: fc.constantFrom('/nix/store', '/tmp/a b/store'),
      wantMassQuery: fc.boolean(),
      priority: fc.integer(),
    },
    { noNullPrototype: true },
  );
  fc.assert(fc.property(info, (value) => assert.deepEqual(parseCacheInfo(formatCacheInfo(value)), value)));
});
