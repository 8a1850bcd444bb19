import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { networksOf } from '../support/made-networks.ts';
import { ConnectionGuard, MAX_PER_STRANGER, type Serves } from '../../src/torrent/connection-guard.ts';

const STRANGER = '198.51.100.7';
const NEIGHBOUR = '192.168.1.7';

function from(remoteAddress: string | undefined): Socket {
  return Object.assign(new EventEmitter(), { remoteAddress }) as Socket;
}

function guard(serves: Serves, banned?: string): ConnectionGuard {
  return new ConnectionGuard(serves, (host) => host === banned, networksOf('192.168.1.2/24', '10.0.0.2/24'));
}

for (const [serves, stranger, neighbour] of [
  ['anyone', true, true],
  ['lan', false, true],
  ['nobody', false, false],
] as const) {
  test(`serves ${serves}`, () => {
    assert.equal(guard(serves).admit(from(STRANGER)), stranger);
    for (const host of [NEIGHBOUR, '127.0.0.1', '::ffff:10.0.0.3', 'fe80::1%eth0'])
      assert.equal(guard(serves).admit(from(host)), neighbour, host);
  });
}

test('a connection that has gone already is not taken', () => {
  assert.equal(guard('anyone').admit(from(undefined)), false);
});

test('a host that has lied is not let in again', () => {
  assert.equal(guard('anyone', STRANGER).admit(from(STRANGER)), false);
  assert.equal(guard('anyone', STRANGER).admit(from('198.51.100.8')), true);
});

test('one stranger cannot take every connection; those that he closes are free again', () => {
  const one = guard('anyone');
  const sockets = Array.from({ length: MAX_PER_STRANGER }, () => from(STRANGER));
  for (const socket of sockets) assert.ok(one.admit(socket));
  assert.equal(one.admit(from(STRANGER)), false);
  assert.equal(one.admit(from('198.51.100.8')), true);
  sockets[0]?.emit('close');
  assert.equal(one.admit(from(STRANGER)), true);
  assert.equal(one.admit(from(STRANGER)), false);
});

test('neighbours may open any number, since each torrent needs a connection', () => {
  const one = guard('lan');
  for (let count = 0; count < 10 * MAX_PER_STRANGER; count++) assert.ok(one.admit(from(NEIGHBOUR)));
});
