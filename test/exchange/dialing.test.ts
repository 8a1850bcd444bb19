import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import { PeerTable, type PeerRecord } from '../../src/discovery/peer-table.ts';
import { Dialing } from '../../src/exchange/dialing.ts';
import { KnownPeers } from '../../src/exchange/known-peers.ts';
import type { Link } from '../../src/exchange/link/link.ts';
import type { InfoHash } from '../../src/nix/brands.ts';

const GROUP = 'ab'.repeat(20) as InfoHash;
const networks = { includes: () => false };

test('the member that has had nothing for longest makes room for another', () => {
  const peers = new PeerTable();
  const known = new KnownPeers(peers, networks);
  known.join(GROUP, { isNear: false });
  for (let count = 1; count <= 49; count++) {
    const peer = peers.addFound({ host: `10.0.${count}.1`, port: 1 }, 'dht', new BlockList());
    assert.ok(peer && known.add(peer));
  }
  const open = new Set<Link>();
  const dialed: PeerRecord[] = [];
  const left: PeerRecord[] = [];
  const dialing = new Dialing({
    peers,
    networks,
    known,
    open,
    dial: (peer, group) => {
      const order = dialed.push(peer);
      // The tenth has been idle for longest, the others for too short a time.
      const idleSinceMs = performance.now() - (order === 10 ? 60_000 : 0);
      const state = { isIdle: true, isKnown: true, hasAnswered: true, hasConnected: true, isOurselves: false };
      const link = { peer, group, idleSinceMs, ...state, drop: () => left.push(peer) } as unknown as Link;
      open.add(link);
      return link;
    },
  });
  dialing.fill();
  assert.deepEqual([dialed.length, left], [48, [dialed[9]]]); // as many as may be idle
  const gone = [...open].find(({ peer }) => peer === left[0]);
  assert.ok(gone);
  open.delete(gone);
  dialing.onEnded(gone);
  dialing.fill();
  assert.equal(dialed.length, 49);
  assert.equal(new Set(dialed).size, 49, 'another one');
  dialing.close();
});
