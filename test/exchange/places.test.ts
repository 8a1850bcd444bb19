import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import { PeerTable, type PeerOrigin, type PeerRecord } from '../../src/discovery/peer-table.ts';
import { Places } from '../../src/exchange/places.ts';
import type { InfoHash } from '../../src/nix/brands.ts';

const [GROUP, OTHER] = ['ab', 'cd'].map((byte) => byte.repeat(20) as InfoHash) as [InfoHash, InfoHash];

/** Returns a peer of the internet (10.0.0.0/8 here), or of the local network. */
function peerAt(host: string, origin: PeerOrigin = 'dht'): PeerRecord {
  const peers = new PeerTable();
  const peer =
    origin === 'given' ? peers.add({ host, port: 1 }) : peers.addFound({ host, port: 1 }, origin, new BlockList());
  assert.ok(peer);
  return peer;
}

test('a group whose places are taken leaves those of other groups, of neighbours and of named peers', () => {
  const places = new Places((host) => host.startsWith('192.168.'));
  const hasFor = (peer: PeerRecord, group: InfoHash): boolean => places.hasFor(peer, group);
  for (let count = 1; count <= 12; count++) {
    const peer = peerAt(`10.0.${count}.1`);
    assert.equal(hasFor(peer, GROUP), true);
    places.count({ peer, group: GROUP, isIdle: false, isKnown: true });
  }
  const far = peerAt('10.0.99.1');
  assert.deepEqual(
    [
      hasFor(far, GROUP),
      hasFor(far, OTHER),
      hasFor(peerAt('192.168.0.1'), GROUP),
      hasFor(peerAt('10.0.0.1', 'given'), GROUP),
    ],
    [false, true, true, true],
  );
});
