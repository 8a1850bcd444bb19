import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostKeyOf, rangeOf } from '../../src/wire/address-range.ts';
import { FairTable } from '../../src/wire/fair-table.ts';

interface Entry {
  readonly host: string;
  readonly isKept?: boolean;
}

function table(capacity: number, perHost = 100): FairTable<Entry> {
  return new FairTable<Entry>({
    capacity,
    perHost,
    hostOf: ({ host }) => host,
    isKept: ({ isKept = false }) => isKept,
  });
}

test('a network with thousands of addresses displaces only its own', () => {
  const peers = table(100);
  const honest = ['192.0.2.1', '198.51.100.1', '2001:db8::1'];
  for (const host of honest) peers.add(host, { host });
  for (let at = 0; at < 60_000; at++) {
    const host = `10.0.0.${at % 256}`;
    peers.add(`${host}:${at}`, { host });
  }
  assert.equal(peers.size, 100);
  assert.ok(honest.every((host) => peers.get(host) !== undefined));
  assert.notEqual(peers.add('late', { host: '203.0.113.9' }), false, 'a newcomer of another network has a place');
  assert.equal(peers.size, 100);
});

test('hosts of one network with many ports displace only their own', () => {
  const peers = table(100);
  peers.add('honest', { host: '192.168.1.2' });
  for (let port = 0; port < 1000; port++)
    for (const host of ['192.168.1.66', '192.168.1.67']) peers.add(`${host}:${port}`, { host });
  assert.ok(peers.get('honest') !== undefined);
  for (let host = 3; host < 30; host++)
    assert.notEqual(peers.add(`${host}`, { host: `192.168.1.${host}` }), false, 'a newcomer has a place');
  const attackers = [...peers.values()].filter(({ host }) => /\.6[67]$/.test(host));
  assert.deepEqual([peers.size, attackers.length], [100, 72]);
});

test('one host has at most its share, and kept entries stay', () => {
  const peers = table(10, 3);
  for (let port = 0; port < 10; port++) peers.add(`a${port}`, { host: '10.0.0.1' });
  assert.equal(peers.size, 3);
  for (let at = 0; at < 10; at++) peers.add(`kept${at}`, { host: '10.0.0.1', isKept: true });
  for (let at = 0; at < 50; at++) peers.add(`b${at}`, { host: `10.0.${at}.1` });
  assert.equal([...peers.values()].filter(({ isKept }) => isKept).length, 10);
});

test('addresses are grouped by the network of one owner', () => {
  assert.equal(rangeOf('192.0.2.77'), rangeOf('::ffff:192.0.2.1'));
  assert.notEqual(rangeOf('192.0.2.77'), rangeOf('192.0.3.77'));
  assert.equal(rangeOf('2001:db8::1'), rangeOf('2001:0db8:0:0:ffff::2%eth0'));
  assert.notEqual(rangeOf('2001:db8::1'), rangeOf('2001:db8:0:1::1'));
  assert.equal(hostKeyOf('2001:db8::1'), hostKeyOf('2001:db8::2'));
  assert.notEqual(hostKeyOf('fe80::1%eth0'), hostKeyOf('fe80::2%eth0'));
  assert.notEqual(hostKeyOf('192.0.2.1'), hostKeyOf('192.0.2.2'));
});
