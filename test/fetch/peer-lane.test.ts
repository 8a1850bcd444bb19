import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fetchFromPeers } from '../../src/fetch/peer-lane.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { MemoryStorage } from '../../src/swarm/chunk-store.ts';
import { Network } from '../../src/swarm/network.ts';
import { untilServed } from '../support/handshake.ts';
import { HOST, makeNar, MIB, peersAt, startDownload, startSwarm, tempDir } from '../swarm/swarm-fixture.ts';
import { infoOf } from './narinfos.ts';

test('a NAR that a cache began is given to no peer before the whole is checked', { timeout: 30_000 }, async (t) => {
  const nar = await makeNar(t, 2 * MIB);
  const { torrent } = nar;
  await using network = await Network.join({ scope: 'lan', listen: HOST, peers: [], dht: false, lan: false });
  await using partial = await PartialNar.open(`${await tempDir(t)}/partial`, { ...torrent, torrent });
  await partial.write(0, [nar.bytes.subarray(0, MIB)], 'a cache');
  const stop = new AbortController();
  const info = infoOf('a');
  const job = { ...torrent, torrent, info, storePaths: [info.storePath], extension: 'xz' };
  const running = fetchFromPeers(job, partial, {
    network,
    tell: () => undefined,
    patience: () => ({ firstByteMs: Infinity, stallMs: Infinity }),
    onVerified: () => undefined,
    onLie: () => undefined,
    handOver: stop.signal,
    signal: stop.signal,
  });
  const [other, client] = [await startSwarm(t), await startSwarm(t)];
  const storage = new MemoryStorage(MIB);
  await storage.write(1, nar.bytes.subarray(MIB));
  await startDownload(t, other, torrent, { storage, have: (index) => index === 1 });
  const { download, from } = await startDownload(t, client, torrent);
  // Each peer is connected to once. A peer that has not opened the torrent yet would refuse.
  for (const { port } of [network.swarm, other]) await untilServed(port, torrent.infoHash);
  await download.addPeers(peersAt(client, network.swarm.port, other.port));
  // It ends once the client has sent the other half over their connection.
  const given = new Set<string>();
  void running.then((outcome) => given.add(outcome));
  while (download.bytes < MIB || (download.connected < 2 && given.size === 0))
    await sleep(20, undefined, { signal: t.signal });
  await sleep(500); // no event tells that a peer stays choked
  assert.deepEqual([...from], [[`${HOST}:${other.port}`, MIB]]);
  stop.abort();
  await running;
});
