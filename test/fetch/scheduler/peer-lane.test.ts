import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { noteUnreachable } from '../../../src/discovery/peer-table.ts';
import { fetchFromPeers, type PeerOutcome } from '../../../src/fetch/scheduler/peer-lane.ts';
import { PartialNar } from '../../../src/store/partial.ts';
import { MemoryStorage } from '../../../src/swarm/chunk-store.ts';
import { Network } from '../../../src/swarm/network.ts';
import { untilServed } from '../../support/handshake.ts';
import { ID, numbers, startRawSeed } from '../../support/raw-peer.ts';
import {
  HOST,
  makeNar,
  MIB,
  peersAt,
  startDownload,
  startSeeder,
  startSwarm,
  tempDir,
  type TestNar,
} from '../../swarm/swarm-fixture.ts';
import { infoOf } from '../walk/narinfos.ts';

test('a NAR that a cache began is given to no peer before the whole is checked', { timeout: 180_000 }, async (t) => {
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
    onSilent: () => undefined,
    onWaited: () => undefined,
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

for (const [when, turns] of [
  ['before the first byte', 1],
  ['again in the middle', 2],
] as const) {
  test(`without an upstream, a client that chokes ${when} is waited for`, { timeout: 180_000 }, async (t) => {
    const nar = await makeNar(t, 2 * MIB);
    const { torrent } = nar;
    let sent = 0;
    await using seed = await startRawSeed(torrent.infoHash, (peer) => {
      peer.send(ID.HAVE_ALL);
      // Longer than a peer without the NAR is waited for. Each connection begins at the end of the queue.
      const giveTurn = (): void => void setTimeout(() => peer.send(ID.UNCHOKE), 3_500);
      peer.onMessage(({ id, payload }) => {
        if (id === ID.INTERESTED) giveTurn();
        if (id !== ID.REQUEST) return;
        const [index, offset, length] = [0, 4, 8].map((at) => payload.readUInt32BE(at)) as [number, number, number];
        const from = index * torrent.pieceLength + offset;
        peer.send(ID.PIECE, Buffer.concat([numbers(index, offset), nar.bytes.subarray(from, from + length)]));
        if (++sent !== 64 || turns === 1) return;
        peer.send(ID.CHOKE);
        giveTurn();
      });
    });
    await using network = await Network.join({
      scope: 'lan',
      listen: HOST,
      peers: [{ host: HOST, port: seed.port }],
      dht: false,
      lan: false,
    });
    await using partial = await PartialNar.open(`${await tempDir(t)}/partial`, { ...torrent, torrent });
    assert.equal(await fetchAlone(network, nar, partial, t), 'complete');
    assert.equal(seed.peers.filter(({ messages }) => messages.some(({ id }) => id === ID.REQUEST)).length, 1);
  });
}

test('clients that choke us keep no other peer from being asked', { timeout: 180_000 }, async (t) => {
  const nar = await makeNar(t, MIB);
  const { torrent } = nar;
  const chokers = await Promise.all(
    [1, 2, 3, 4].map(() => startRawSeed(torrent.infoHash, (peer) => peer.send(ID.HAVE_ALL))),
  );
  for (const choker of chokers) t.after(() => choker[Symbol.asyncDispose]());
  const peers = chokers.map(({ port }) => ({ host: HOST, port }));
  await using network = await Network.join({ scope: 'lan', listen: HOST, peers, dht: false, lan: false });
  await using partial = await PartialNar.open(`${await tempDir(t)}/partial`, { ...torrent, torrent });
  const running = fetchAlone(network, nar, partial, t);
  for (const { peers: connections } of chokers)
    while (!connections.some(({ messages }) => messages.some(({ id }) => id === ID.INTERESTED)))
      await sleep(20, undefined, { signal: t.signal });
  const { port } = await startSeeder(t, [nar.seed]);
  network.discovery.add({ host: HOST, port }, 'given');
  assert.equal(await running, 'complete');
});

test('a NAR whose only client turns out to be silent is given up at once', { timeout: 180_000 }, async (t) => {
  const { torrent } = await makeNar(t, MIB);
  await using seed = await startRawSeed(torrent.infoHash, (peer) => {
    peer.send(ID.HAVE_ALL);
    peer.send(ID.UNCHOKE);
  });
  const peers = [{ host: HOST, port: seed.port }];
  await using network = await Network.join({ scope: 'lan', listen: HOST, peers, dht: false, lan: false });
  await using partial = await PartialNar.open(`${await tempDir(t)}/partial`, { ...torrent, torrent });
  const info = infoOf('a');
  const job = { ...torrent, torrent, info, storePaths: [info.storePath], extension: 'xz' };
  /** Number of questions about the patience since the client was found silent: several a look, four looks a second. */
  let questions = -Infinity;
  const outcome = await fetchFromPeers(job, partial, {
    network,
    tell: () => undefined,
    patience: () => {
      questions++;
      return { firstByteMs: 1_000_000, stallMs: 1_000_000 }; // three seconds is the most that counts
    },
    onVerified: () => undefined,
    onLie: () => undefined,
    onSilent: () => (questions = 0),
    onWaited: () => undefined,
    handOver: new AbortController().signal,
    signal: t.signal,
  });
  assert.equal(outcome, 'given up');
  assert.ok(questions > 0 && questions <= 4, `${questions} questions`);
});

test('no torrent is opened for peers that would not be asked', async (t) => {
  const { torrent } = await makeNar(t, MIB);
  const peers = [{ host: HOST, port: 1 }];
  await using network = await Network.join({ scope: 'lan', listen: HOST, peers, dht: false, lan: false });
  for (const peer of network.foreigners()) noteUnreachable(peer);
  const { mock } = t.mock.method(network.swarm, 'download');
  await using partial = await PartialNar.open(`${await tempDir(t)}/partial`, { ...torrent, torrent });
  const info = infoOf('a');
  const job = { ...torrent, torrent, info, storePaths: [info.storePath], extension: 'xz' };
  const outcome = await fetchFromPeers(job, partial, {
    network,
    tell: () => undefined,
    patience: () => ({ firstByteMs: 1_000_000, stallMs: 1_000_000 }),
    onVerified: () => undefined,
    onLie: () => undefined,
    onSilent: () => undefined,
    onWaited: () => undefined,
    handOver: new AbortController().signal,
    signal: t.signal,
  });
  assert.equal(outcome, 'given up');
  assert.equal(mock.callCount(), 0);
});

/** Fetches a NAR without an upstream. */
function fetchAlone(network: Network, { torrent }: TestNar, partial: PartialNar, t: TestContext): Promise<PeerOutcome> {
  const info = infoOf('a');
  const job = { ...torrent, torrent, info, storePaths: [info.storePath], extension: 'xz' };
  return fetchFromPeers(job, partial, {
    network,
    tell: () => undefined,
    patience: () => ({ firstByteMs: Infinity, stallMs: 3_000 }),
    onVerified: () => undefined,
    onLie: () => undefined,
    onSilent: () => undefined,
    onWaited: () => undefined,
    handOver: new AbortController().signal,
    signal: t.signal,
  });
}
