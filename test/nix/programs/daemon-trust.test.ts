import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { isAmong } from '../../../src/nix/programs/daemon-trust.ts';
import { parseTrustedUsers } from '../../../src/nix/programs/nix-config.ts';
import { parseStoreInfo } from '../../../src/nix/programs/store-info.ts';

suite('users that the Nix daemon trusts', () => {
  test('reads the description of a store by every version of Nix', () => {
    assert.deepEqual(parseStoreInfo('Store URL: daemon\nVersion: 2.8.0\n'), { url: 'daemon', isTrusted: undefined });
    assert.deepEqual(parseStoreInfo('Store URL: daemon\nVersion: 2.26.3\nTrusted: 0\n'), {
      url: 'daemon',
      isTrusted: false,
    });
    assert.deepEqual(parseStoreInfo('{"trusted":1,"url":"daemon","version":"2.26.3"}'), {
      url: 'daemon',
      isTrusted: true,
    });
    assert.deepEqual(parseStoreInfo('{"trusted":false,"url":"unix:///x"}'), { url: 'unix:///x', isTrusted: false });
    assert.deepEqual(parseStoreInfo('{"url":"local"}'), { url: 'local', isTrusted: undefined });
    assert.throws(() => parseStoreInfo('{'), { code: 'NIX_FAILED' });
  });

  test('trusted-users may list names, groups, or everybody', () => {
    const me = { name: 'me', groups: ['users', 'wheel'] };
    for (const words of [['root', 'me'], ['@wheel'], ['*']]) assert.ok(isAmong(words, me), words.join(' '));
    for (const words of [[], ['root'], ['@root', 'wheel']]) assert.ok(!isAmong(words, me), words.join(' '));
    assert.deepEqual(parseTrustedUsers('{"trusted-users":{"value":["root","@wheel"]}}'), ['root', '@wheel']);
    assert.deepEqual(parseTrustedUsers('trusted-users = root @wheel\n'), ['root', '@wheel']);
  });
});
