import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnNames, searchDomainsIn } from '../../src/daemon/own-names.ts';

const names = new OwnNames({ own: 'nixos', domains: ['lab.example.org'], further: ['Cache.example.org'] });

test('addresses and names of this machine are its own, with and without a port', () => {
  for (const host of ['127.0.0.1:16275', '[::1]:16275', '[fe80::1]', 'localhost', 'nixos', 'NIXOS:80', 'nixos.local.'])
    assert.ok(names.has(host), host);
  for (const host of ['nixos.lab.example.org:16275', 'cache.example.org']) assert.ok(names.has(host), host);
});

test('names that anybody can register are not, even if they begin with the name of this machine', () => {
  for (const host of [
    'nixos.example.com',
    'nixos.lab.example.org.example.com',
    'cache.example.com',
    'local',
    '',
    ':80',
  ])
    assert.ok(!names.has(host), host);
});

test('a machine that is named with its domain answers under both names', () => {
  const full = new OwnNames({ own: 'web1.example.org', domains: [] });
  for (const host of ['web1', 'web1.example.org', 'web1.lan']) assert.ok(full.has(host), host);
  assert.ok(!full.has('web1.example.com'));
});

test('the last line of search domains counts', () => {
  assert.deepEqual(
    searchDomainsIn('# search no\nnameserver 127.0.0.53\nsearch  a.example\t b.example\noptions edns0\n'),
    ['a.example', 'b.example'],
  );
  assert.deepEqual(searchDomainsIn('search a.example\ndomain b.example\n'), ['b.example']);
  assert.deepEqual(searchDomainsIn('search .\n'), []);
  assert.deepEqual(searchDomainsIn(''), []);
});
