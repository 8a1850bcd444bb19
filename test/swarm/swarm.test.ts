import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MemoryStorage, type PieceStorage } from '../../src/swarm/chunk-store.ts';
import { RateLimit } from '../../src/bytes/rate-limit.ts';
import { ID, numbers, RawPeer, startRawSeed, type RawSeed } from '../support/raw-peer.ts';
import {
  HOST,
  makeNar,
  MIB,
  PIECE,
  peersAt,
  poisoned,
  startDownload,
  startSeeder,
  startSwarm,
  tempDir,
} from './swarm-fixture.ts';

const LIMIT = { timeout: 180_000 };

for (const [name, sizeBytes] of Object.entries({
  'of one byte': 1,
  'of a block and a byte': 16 * 1024 + 1,
  'of exactly one piece': PIECE,
  'of many pieces, the last one short': 5 * MIB + 12_345,
})) {
  test(`downloads a NAR ${name} from a file`, LIMIT, async (t) => {
    const nar = await makeNar(t, sizeBytes);
    const seeder = await startSeeder(t, [nar.seed]);
    const client = await startSwarm(t);
    const { download, done } = await startDownload(t, client, nar.torrent);
    await download.addPeers(peersAt(client, seeder.port));
    assert.ok(nar.bytes.equals(await done));
    assert.equal(download.bytes, sizeBytes);
  });
}

test('downloads only the missing pieces', LIMIT, async (t) => {
  const nar = await makeNar(t, 4 * PIECE);
  const seeder = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const storage = new MemoryStorage(PIECE);
  const held = new Set([0, 2]);
  for (const index of held) await storage.write(index, nar.bytes.subarray(index * PIECE, (index + 1) * PIECE));
  const { download, done } = await startDownload(t, client, nar.torrent, { storage, have: (index) => held.has(index) });
  await download.addPeers(peersAt(client, seeder.port));
  assert.ok(nar.bytes.equals(await done));
  assert.equal(download.bytes, 2 * PIECE);
});

test('assembles a NAR from two peers with a half each', LIMIT, async (t) => {
  const nar = await makeNar(t, 6 * PIECE);
  const client = await startSwarm(t);
  const ports: number[] = [];
  for (const isMine of [(index: number) => index < 3, (index: number) => index >= 3]) {
    const half = await startSwarm(t);
    const storage = new MemoryStorage(PIECE);
    for (let index = 0; index < 6; index++) {
      if (isMine(index)) await storage.write(index, nar.bytes.subarray(index * PIECE, (index + 1) * PIECE));
    }
    await startDownload(t, half, nar.torrent, { storage, have: isMine });
    ports.push(half.port);
  }
  const { download, done, from } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, ...ports));
  assert.ok(nar.bytes.equals(await done));
  assert.deepEqual([...from.values()], [3 * PIECE, 3 * PIECE]);
});

test('a private download gives nothing', LIMIT, async (t) => {
  const nar = await makeNar(t, 2 * PIECE);
  const [holder, other, client] = [await startSwarm(t), await startSwarm(t), await startSwarm(t)];
  const storage = new MemoryStorage(PIECE);
  await storage.write(0, nar.bytes.subarray(0, PIECE));
  await startDownload(t, holder, nar.torrent, { storage, have: (index) => index === 0, gives: false });
  const second = new MemoryStorage(PIECE);
  await second.write(1, nar.bytes.subarray(PIECE));
  await startDownload(t, other, nar.torrent, { storage: second, have: (index) => index === 1 });
  const { download, from } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, holder.port, other.port));
  while (download.bytes < PIECE || download.connected < 2) await sleep(20);
  await sleep(500); // no event tells that a peer stays choked
  assert.deepEqual([...from], [[`${HOST}:${other.port}`, PIECE]]);
});

test('continues with another peer if one dies midway', LIMIT, async (t) => {
  const nar = await makeNar(t, 8 * MIB);
  const first = await startSeeder(t, [nar.seed]);
  const second = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t, { downloadLimit: new RateLimit(6 * MIB) });
  const { download, done, from } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, first.port));
  await once(download, 'bytes');
  const alone = once(download, 'alone');
  await first.close();
  await alone;
  await download.addPeers(peersAt(client, second.port));
  assert.ok(nar.bytes.equals(await done));
  assert.deepEqual([...from.keys()], [`${HOST}:${first.port}`, `${HOST}:${second.port}`]);
});

test('a peer that sends wrong bytes is named and banned', LIMIT, async (t) => {
  const nar = await makeNar(t, 3 * MIB);
  const liar = await startSeeder(t, [await poisoned(t, nar)]);
  const honest = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const { download, done, lies } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, liar.port));
  const [named] = await once(download, 'lie');
  assert.equal(named, `${HOST}:${liar.port}`);
  assert.match(client.peers.get(named)?.banned ?? '', /SHA-1/);
  await sleep(1_500); // WebTorrent’s own reconnect comes after a second
  assert.equal(download.connected, 0);
  await download.addPeers(peersAt(client, honest.port));
  assert.ok(nar.bytes.equals(await done));
  assert.deepEqual(lies, [named]);
});

test('if two peers sent parts of a bad piece, only the liar is banned', LIMIT, async (t) => {
  // One piece of 16 blocks: both peers are asked for parts of it.
  const nar = await makeNar(t, PIECE);
  const liar = await startSeeder(t, [await poisoned(t, nar)]);
  const honest = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const { download, done, lies, from } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, liar.port, honest.port));
  assert.ok(nar.bytes.equals(await done));
  assert.equal(from.size, 2, 'both have sent something');
  assert.deepEqual(lies, [`${HOST}:${liar.port}`]);
  assert.equal(client.peers.get(`${HOST}:${honest.port}`)?.banned, undefined);
});

test('four liars keep no NAR from coming from the only honest peer', { timeout: 60_000 }, async (t) => {
  const nars = await Promise.all(Array.from({ length: 20 }, () => makeNar(t, 30_000)));
  const honest = await startSeeder(
    t,
    nars.map(({ seed }) => seed),
  );
  const client = await startSwarm(t);
  const lie = promise((peer, request) => {
    peer.send(ID.PIECE, Buffer.concat([request.subarray(0, 8), randomBytes(request.readUInt32BE(8))]));
  });
  const fetch = async ({ torrent, bytes }: (typeof nars)[number]): Promise<void> => {
    const liars = await Promise.all([1, 2, 3, 4].map(() => startRawSeed(torrent.infoHash, lie)));
    const { download, done } = await startDownload(t, client, torrent);
    await download.addPeers(peersAt(client, ...liars.map(({ port }) => port), honest.port));
    assert.ok(bytes.equals(await done));
    await Promise.all(liars.map((liar) => liar[Symbol.asyncDispose]()));
  };
  await Promise.all(nars.map((nar) => fetch(nar)));
});

test('a liar that connected to us cannot connect again', LIMIT, async (t) => {
  const nar = await makeNar(t, 2 * PIECE);
  const client = await startSwarm(t);
  const { download, lies } = await startDownload(t, client, nar.torrent);
  const liar = await startSwarm(t);
  const { download: upload } = await startDownload(t, liar, nar.torrent, {
    storage: {
      // WebTorrent itself reads a whole piece, to check it; peers ask for less.
      read: (targets, offset) => {
        const [whole] = targets;
        if (whole?.length === PIECE) nar.bytes.copy(whole, 0, offset);
        else for (const target of targets) target.fill(0);
        return Promise.resolve();
      },
      write: () => Promise.resolve(),
      close: () => Promise.resolve(),
    },
    have: (index) => index === 0,
  });
  await upload.addPeers(peersAt(liar, client.port));
  await once(download, 'lie');
  assert.equal(lies.length, 1);
  assert.ok(client.peers.isBannedHost(HOST));
  const again = await startSwarm(t);
  const retry = await startDownload(t, again, nar.torrent);
  await retry.download.addPeers(peersAt(again, client.port));
  await once(retry.download, 'alone');
});

/** Announces that it has everything, unchokes everybody, and passes each request to `answer`. */
function promise(answer: (peer: RawPeer, request: Buffer) => void): (peer: RawPeer) => void {
  return (peer) => {
    peer.send(ID.HAVE_ALL);
    peer.onMessage(({ id, payload }) => {
      if (id === ID.INTERESTED) peer.send(ID.UNCHOKE);
      if (id === ID.REQUEST) answer(peer, payload);
    });
  };
}

/** Downloads a NAR from a peer that promises everything and sends nothing, and then from an honest one, too. */
async function downloadBesideStaller(t: TestContext, sizeBytes: number): Promise<RawSeed> {
  const nar = await makeNar(t, sizeBytes);
  const staller = await startRawSeed(
    nar.torrent.infoHash,
    promise(() => undefined),
  );
  const honest = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const { download, done } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, staller.port));
  while (staller.peers[0]?.messages.some(({ id }) => id === ID.REQUEST) !== true) await sleep(10);
  await download.addPeers(peersAt(client, honest.port));
  assert.ok(nar.bytes.equals(await done));
  return staller;
}

/** These tests wait more than they work. */
suite('in its time', { concurrency: true }, () => {
  test('a peer that promises everything and sends nothing does not delay the others', LIMIT, async (t) => {
    await using staller = await downloadBesideStaller(t, MIB);
    assert.ok(staller.peers[0]?.isOpen, 'its blocks went to the other before it was given up');
    await staller.peers[0].receive(ID.CANCEL);
  });

  test('the only block of a NAR is requested from another peer if the first one is silent', LIMIT, async (t) => {
    await using staller = await downloadBesideStaller(t, 1000);
    assert.ok(staller.peers[0]?.isOpen, 'it is given up only after a while');
  });

  test('a peer that sends another torrent first is waited for', LIMIT, async (t) => {
    const nar = await makeNar(t, 1000);
    // It answers later than a silent peer is given up.
    const answer = (peer: RawPeer, request: Buffer): void =>
      void sleep(6_000).then(() => peer.send(ID.PIECE, Buffer.concat([request.subarray(0, 8), nar.bytes])));
    await using busy = await startRawSeed(nar.torrent.infoHash, promise(answer));
    const client = await startSwarm(t);
    const { download, done } = await startDownload(t, client, nar.torrent);
    const [peer] = peersAt(client, busy.port);
    assert.ok(peer !== undefined);
    const timer = setInterval(() => peer.rate.add(1, performance.now()), 250);
    t.after(() => clearInterval(timer));
    const alone = once(download, 'alone').then(() => assert.fail('it was given up'));
    await download.addPeers([peer]);
    const bytes = await Promise.race([done, alone]);
    assert.ok(nar.bytes.equals(bytes));
    assert.equal(peer.silences, 0);
  });

  test('keeps the download limit', LIMIT, async (t) => {
    const rate = 2 * MIB;
    const nar = await makeNar(t, 8 * MIB);
    const seeder = await startSeeder(t, [nar.seed]);
    const client = await startSwarm(t, { downloadLimit: new RateLimit(rate) });
    const { download, done } = await startDownload(t, client, nar.torrent);
    const startedAt = performance.now();
    await download.addPeers(peersAt(client, seeder.port));
    await done;
    const seconds = (performance.now() - startedAt) / 1000;
    const expected = nar.bytes.length / rate;
    assert.ok(seconds > expected * 0.8 && seconds < expected * 1.2, `${seconds} s in place of ${expected} s`);
  });
});

test('keeps the upload limit', LIMIT, async (t) => {
  const rate = 4 * MIB;
  const nar = await makeNar(t, 4 * MIB);
  const seeder = await startSeeder(t, [nar.seed], { uploadLimit: new RateLimit(rate) });
  const client = await startSwarm(t);
  const { download, done } = await startDownload(t, client, nar.torrent);
  const startedAt = performance.now();
  await download.addPeers(peersAt(client, seeder.port));
  assert.ok(nar.bytes.equals(await done));
  const seconds = (performance.now() - startedAt) / 1000;
  assert.ok(seconds > (nar.bytes.length / rate) * 0.7, `${seconds} s`); // a burst and the last blocks are not delayed
});

test('a peer that rejects every request is left alone', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  await using refuser = await startRawSeed(
    nar.torrent.infoHash,
    promise((peer, request) => peer.send(ID.REJECT, request)),
  );
  const client = await startSwarm(t);
  const { download } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, refuser.port));
  await once(download, 'alone');
  assert.ok((refuser.peers[0]?.messages.filter(({ id }) => id === ID.REQUEST).length ?? 0) < 64);
});

test('a peer that lacks the torrent says so at once', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  const empty = await startSwarm(t);
  const client = await startSwarm(t);
  const { download } = await startDownload(t, client, nar.torrent);
  const startedAt = performance.now();
  const alone = once(download, 'alone');
  await download.addPeers(peersAt(client, empty.port));
  await alone;
  assert.ok(performance.now() - startedAt < 1_000);
  assert.deepEqual(
    peersAt(client, empty.port).map(({ hits, misses }) => ({ hits, misses })),
    [{ hits: 0, misses: 1 }],
  );
});

test('serves nobody if it should not', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  const closed = await startSeeder(t, [nar.seed], { serves: 'nobody' });
  const client = await startSwarm(t);
  const { download } = await startDownload(t, client, nar.torrent);
  const alone = once(download, 'alone');
  await download.addPeers(peersAt(client, closed.port));
  await alone;
  assert.equal(closed.openTorrents, 0);
});

test('a peer outside the scope that we connected to stays choked', LIMIT, async (t) => {
  const nar = await makeNar(t, 1000);
  for (const [serves, answer] of [
    ['lan', ID.PIECE],
    ['nobody', ID.REJECT],
  ] as const) {
    const answered = Promise.withResolvers<number>();
    const raw = await startRawSeed(nar.torrent.infoHash, (peer) => {
      peer.onMessage(({ id }) => {
        if (id === ID.HAVE_ALL) peer.send(ID.INTERESTED);
        if (id === ID.UNCHOKE || (id === ID.HAVE_ALL && serves === 'nobody'))
          peer.send(ID.REQUEST, numbers(0, 0, 1000));
        if (id === ID.PIECE || id === ID.REJECT) answered.resolve(id);
      });
    });
    t.after(() => raw[Symbol.asyncDispose]());
    const swarm = await startSwarm(t, { serves });
    const { download } = await startDownload(t, swarm, nar.torrent, {
      have: () => true,
      storage: storageOf(nar.bytes),
    });
    await download.addPeers(peersAt(swarm, raw.port));
    assert.equal(await answered.promise, answer);
  }
});

function storageOf(bytes: Buffer): PieceStorage {
  return {
    read: (targets, offset) => {
      let at = offset;
      for (const target of targets) at += bytes.copy(target, 0, at);
      return Promise.resolve();
    },
    write: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

test('if the disk is slower than the network, peers wait and memory does not grow', LIMIT, async (t) => {
  const nar = await makeNar(t, 96 * MIB);
  const seeder = await startSeeder(t, [nar.seed]);
  const client = await startSwarm(t);
  const stuck = Promise.withResolvers<void>();
  const storage = new MemoryStorage(nar.torrent.pieceLength);
  const write = storage.write.bind(storage);
  storage.write = async (index, bytes) => {
    await stuck.promise;
    await write(index, bytes);
  };
  const { download, done } = await startDownload(t, client, nar.torrent, { storage });
  await download.addPeers(peersAt(client, seeder.port));
  while (download.bytes < 32 * MIB) await sleep(10);
  await sleep(200); // time for much more to come
  assert.ok(download.bytes < 40 * MIB, `${download.bytes} bytes wait for the disk`);
  stuck.resolve();
  assert.ok(nar.bytes.equals(await done));
});

test('opens a seed for its first peer, and closes it when nobody uses it', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  const seeder = await startSeeder(t, [nar.seed], { idleSeedMs: 200 });
  assert.equal(seeder.openTorrents, 0);
  for (let round = 0; round < 2; round++) {
    const client = await startSwarm(t);
    const { download, done } = await startDownload(t, client, nar.torrent);
    await download.addPeers(peersAt(client, seeder.port));
    await done;
    assert.equal(seeder.openTorrents, 1);
    await client.close();
    while (seeder.openTorrents > 0) await sleep(20);
  }
});

test('an open seed that may no longer be served is closed when another peer names it', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  let mayServe = true;
  const seeder = await startSeeder(t, [], { seeds: () => Promise.resolve(mayServe ? nar.seed : undefined) });
  const first = await RawPeer.connect(seeder.port, nar.torrent.infoHash);
  assert.equal(seeder.openTorrents, 1);
  mayServe = false;
  const second = await RawPeer.open(seeder.port, nar.torrent.infoHash);
  await assert.rejects(second.until(() => second.infoHash !== ''));
  await first.closed();
  assert.equal(seeder.openTorrents, 0);
});

test('disconnects a peer that requests nothing', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  const seeder = await startSeeder(t, [nar.seed], { idleSeedMs: 200, idlePeerMs: 400 });
  const idler = await RawPeer.connect(seeder.port, nar.torrent.infoHash);
  await idler.closed();
  while (seeder.openTorrents > 0) await sleep(20);
});

test('peers that stay and ask for nothing keep only so many seeds open', LIMIT, async (t) => {
  const nars = await Promise.all(Array.from({ length: 4 }, () => makeNar(t, MIB)));
  const seeder = await startSeeder(
    t,
    nars.map(({ seed }) => seed),
    { maxSeeds: 2 },
  );
  const idlers = [];
  for (const { torrent } of nars) {
    idlers.push(await RawPeer.connect(seeder.port, torrent.infoHash));
    assert.ok(seeder.openTorrents <= 3, `${seeder.openTorrents} are open`); // one may still be closing
  }
  await Promise.all([idlers[0]!.closed(), idlers[1]!.closed()]);
  assert.equal(seeder.openTorrents, 2);
});

test('a missing file ends its own seed only', LIMIT, async (t) => {
  const nar = await makeNar(t, MIB);
  const gone = {
    torrent: (await makeNar(t, MIB)).torrent,
    files: [{ path: `${await tempDir(t)}/gone`, sizeBytes: MIB }],
  };
  const seeder = await startSeeder(t, [nar.seed, gone]);
  const client = await startSwarm(t);
  const missing = await startDownload(t, client, gone.torrent);
  await missing.download.addPeers(peersAt(client, seeder.port));
  await once(missing.download, 'alone');
  const { download, done } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, seeder.port));
  assert.ok(nar.bytes.equals(await done));
});

test('reports why it cannot listen', LIMIT, async (t) => {
  const swarm = await startSwarm(t);
  await assert.rejects(startSwarm(t, { ports: [swarm.port] }), { code: 'LISTEN_FAILED' });
});
