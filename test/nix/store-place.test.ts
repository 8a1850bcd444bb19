import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { isRemoteStore } from '../../src/nix/store-place.ts';

const { NIX_REMOTE } = process.env;
afterEach(() => {
  if (NIX_REMOTE === undefined) delete process.env.NIX_REMOTE;
  else process.env.NIX_REMOTE = NIX_REMOTE;
});

test('a store is remote if Nix reaches it over a network, also as the default one', () => {
  const near = [
    '',
    'auto',
    'daemon',
    'local',
    'local?root=/x',
    'local:///x',
    '/mnt',
    './x',
    'unix:///run/socket?root=/x',
    'file:///cache',
  ];
  for (const store of near) {
    assert.equal(isRemoteStore(store), false, store);
    process.env.NIX_REMOTE = store;
    assert.equal(isRemoteStore(undefined), false, store);
  }
  for (const store of ['ssh-ng://server', 'ssh://root@server?remote-store=x', 'https://cache.example', 's3://bucket']) {
    assert.equal(isRemoteStore(store), true, store);
    process.env.NIX_REMOTE = store;
    assert.equal(isRemoteStore(undefined), true, store);
    assert.equal(isRemoteStore('daemon'), false, 'a named store comes first');
  }
});
