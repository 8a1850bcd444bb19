import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { networksOf } from '../support/made-networks.ts';
import { ConnectionGuard, type Serves } from '../../src/discovery/connection-guard.ts';
import { MAX_CONNECTIONS_PER_NEIGHBOUR, MAX_CONNECTIONS_PER_STRANGER } from '../../src/wire/bounds.ts';

const STRANGER = '198.51.100.7';
const NEIGHBOUR = '192.168.1.7';

function from(remoteAddress: string | undefined): Socket {
  const socket = Object.assign(new EventEmitter(), { remoteAddress, destroyed: false, destroy });
  function destroy(): void {
    socket.destroyed = true;
    socket.emit('close');
  }
  return socket as unknown as Socket;
}

function guard(serves: Serves, banned?: string, total?: number): ConnectionGuard {
  return new ConnectionGuard(serves, (host) => host === banned, networksOf('192.168.1.2/24', '10.0.0.2/24'), total);
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

test('refuses a connection that has already ended', () => {
  assert.equal(guard('anyone').admit(from(undefined)), false);
});

test('refuses a host that has lied', () => {
  assert.equal(guard('anyone', STRANGER).admit(from(STRANGER)), false);
  assert.equal(guard('anyone', STRANGER).admit(from('198.51.100.8')), true);
});

test('a host gets no more than its share, and closed connections are free again', () => {
  const one = guard('anyone');
  for (const [host, share] of [
    [STRANGER, MAX_CONNECTIONS_PER_STRANGER],
    [NEIGHBOUR, MAX_CONNECTIONS_PER_NEIGHBOUR],
  ] as const) {
    const sockets = Array.from({ length: share }, () => from(host));
    for (const socket of sockets) assert.ok(one.admit(socket));
    assert.equal(one.admit(from(host)), false);
    sockets[0]?.emit('close');
    assert.equal(one.admit(from(host)), true);
    assert.equal(one.admit(from(host)), false);
  }
});

test('hosts with most connections lose one to each host that has fewer', () => {
  const one = guard('lan', undefined, 30);
  const taken = Array.from({ length: 30 }, () => from(NEIGHBOUR));
  for (const socket of taken) assert.ok(one.admit(socket));
  const others = Array.from({ length: 15 }, (_, index) => from(`192.168.1.${100 + index}`));
  for (const other of others) assert.ok(one.admit(other));
  assert.deepEqual(
    taken.map(({ destroyed }) => destroyed),
    taken.map((_, index) => index < 15),
  );
  assert.ok(others.every(({ destroyed }) => !destroyed));
});

test('no host loses a connection to one that would then have more', () => {
  for (const [shares, host] of [
    [{ one: 1, two: 1 }, 'three'],
    [{ one: 2, two: 2 }, 'two'],
    [{ one: 3, two: 2 }, 'two'],
  ] as const) {
    const hosts = { one: '192.168.1.11', two: '192.168.1.12', three: '192.168.1.13' };
    const sockets = [hosts.one, hosts.two].flatMap((address, index) =>
      Array.from({ length: index === 0 ? shares.one : shares.two }, () => from(address)),
    );
    const full = guard('lan', undefined, sockets.length);
    for (const socket of sockets) assert.ok(full.admit(socket));
    assert.equal(full.admit(from(hosts[host])), false);
    assert.ok(sockets.every(({ destroyed }) => !destroyed));
  }
});
