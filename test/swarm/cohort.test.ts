/** Small NARs over the one connection between members of a cohort: real swarms, and peers that break the protocol. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimit } from '../../src/bytes/rate-limit.ts';
import type { InfoHash } from '../../src/nix/brands.ts';
import type { NarTorrent } from '../../src/torrent/canonical.ts';
import type { Swarm } from '../../src/swarm/swarm.ts';
import type { PieceStorage } from '../../src/swarm/chunk-store.ts';
import { ID, message, numbers, RawPeer, type RawSeed, startRawSeed } from '../support/raw-peer.ts';
import { makeNar, MIB, peersAt, poisoned, startDownload, startSeeder, startSwarm, torrentOf } from './swarm-fixture.ts';

const COHORT = 'c'.repeat(40) as InfoHash;
const EXCHANGE_ID = 7;
const ASKING = {
  onLie: (address: string): void => assert.fail(`${address} is said to lie`),
  patienceMs: 10_000,
  signal: new AbortController().signal,
};

/** A swarm that meets these members, given by their ports. */
async function member(t: TestContext, ...ports: readonly number[]): Promise<Swarm> {
  const swarm = await startSwarm(t);
  swarm.meet(COHORT);
  for (const peer of peersAt(swarm, ...ports)) swarm.cohort.addMember(peer);
  return swarm;
}

/** A hand-made member that speaks the extension and answers each ASK with what `answer` makes of its id. */
async function rawMember(
  t: TestContext,
  answer: (id: Buffer, peer: RawPeer, exchangeId: number) => void,
): Promise<RawSeed> {
  const seed = await startRawSeed(COHORT, (peer) => {
    peer.extended(0, `d1:md12:nar_exchangei${EXCHANGE_ID}eee`);
    let theirId = 0;
    peer.onMessage(({ id, payload }) => {
      if (id !== ID.EXTENDED) return;
      const named = /12:nar_exchangei(\d+)e/.exec(payload.toString('latin1'));
      if (payload[0] === 0) theirId = Number(named?.[1]);
      else if (payload[0] === EXCHANGE_ID && payload[1] === 1) answer(payload.subarray(2, 6), peer, theirId);
    });
  });
  t.after(() => seed[Symbol.asyncDispose]());
  return seed;
}

function part(id: Buffer, sizeBytes: number, offset: number, bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(sizeBytes, 0);
  head.writeUInt32BE(offset, 4);
  return Buffer.concat([Buffer.of(2), id, head, bytes]);
}

suite('nar_exchange', () => {
  test('many NARs come over one connection, those of several parts too', async (t) => {
    const nars = await Promise.all(
      [100, 70_000, 300_000, MIB, ...Array.from({ length: 40 }, (_, index) => 500 + index)].map((size) =>
        makeNar(t, size),
      ),
    );
    const seeder = await startSeeder(
      t,
      nars.map((nar) => nar.seed),
    );
    seeder.meet(COHORT);
    const swarm = await member(t, seeder.port);
    const found = await Promise.all(nars.map((nar) => swarm.cohort.request(nar.torrent, ASKING)));
    for (const [index, nar] of nars.entries()) {
      assert.ok(nar.bytes.equals(found[index]?.bytes ?? Buffer.alloc(0)));
      assert.equal(found[index]?.address, `127.0.0.1:${seeder.port}`);
    }
    assert.equal(seeder.openTorrents, 1, 'the cohort’s own swarm, and no torrent for any NAR');
  });

  test('a NAR that no member has, or of more than one piece, is not had this way', async (t) => {
    const large = await makeNar(t, MIB + 1);
    const absent = await makeNar(t, 1000);
    const seeder = await startSeeder(t, [large.seed]);
    seeder.meet(COHORT);
    const swarm = await member(t, seeder.port);
    assert.equal(await swarm.cohort.request(absent.torrent, ASKING), undefined);
    assert.equal(await swarm.cohort.request(large.torrent, ASKING), undefined);
  });

  test('a member that lacks it does not keep another from sending it', async (t) => {
    const nar = await makeNar(t, 5000);
    const empty = await startSeeder(t, []);
    const full = await startSeeder(t, [nar.seed]);
    empty.meet(COHORT);
    full.meet(COHORT);
    const swarm = await member(t, empty.port, full.port);
    await swarm.cohort.request((await makeNar(t, 10)).torrent, ASKING); // both connections stand now
    const found = await swarm.cohort.request(nar.torrent, ASKING);
    assert.equal(found?.address, `127.0.0.1:${full.port}`);
  });

  test('a member that sends other bytes is banned by name, and the next one asked', async (t) => {
    const nar = await makeNar(t, 5000);
    const liar = await startSeeder(t, [await poisoned(t, nar)]);
    liar.meet(COHORT);
    const swarm = await member(t, liar.port);
    const lies: string[] = [];
    assert.equal(
      await swarm.cohort.request(nar.torrent, { ...ASKING, onLie: (address) => lies.push(address) }),
      undefined,
    );
    assert.deepEqual(lies, [`127.0.0.1:${liar.port}`]);
    assert.ok(swarm.peers.get(`127.0.0.1:${liar.port}`)?.banned);
  });

  test('a member that goes away in the middle of an answer ends the question', async (t) => {
    const nar = await makeNar(t, 5000);
    const raw = await rawMember(t, (id, peer, exchangeId) => {
      peer.extended(exchangeId, part(id, 5000, 0, nar.bytes.subarray(0, 1000)));
      peer.socket.end();
    });
    const swarm = await member(t, raw.port);
    assert.equal(await swarm.cohort.request(nar.torrent, ASKING), undefined);
  });

  test('a member that never answers is left after a while, and the next one asked', async (t) => {
    const nar = await makeNar(t, 5000);
    const silent = await rawMember(t, () => undefined);
    const swarm = await member(t, silent.port);
    assert.equal(await swarm.cohort.request(nar.torrent, { ...ASKING, patienceMs: 300 }), undefined);
    await silent.peers[0]?.closed();
  });

  test('members that are silent cost a moment: the one that sends is asked, too', async (t) => {
    const nars = await Promise.all(Array.from({ length: 8 }, () => makeNar(t, 5000)));
    const silent = await Promise.all([0, 1, 2].map(() => rawMember(t, () => undefined)));
    const seeder = await startSeeder(
      t,
      nars.map((nar) => nar.seed),
    );
    seeder.meet(COHORT);
    const swarm = await member(t, ...silent.map(({ port }) => port), seeder.port);
    while (swarm.cohort.size < 4) await sleep(10);
    const patient = { ...ASKING, patienceMs: Infinity };
    const found = await Promise.all(nars.map((nar) => swarm.cohort.request(nar.torrent, patient)));
    for (const [index, nar] of nars.entries()) assert.ok(nar.bytes.equals(found[index]?.bytes ?? Buffer.alloc(0)));
    assert.ok(
      silent.some(({ peers }) => peers[0]?.isOpen === true),
      'before any of them was given up',
    );
  });

  test('a question that is no longer wanted ends at once', async (t) => {
    const nar = await makeNar(t, 5000);
    const stop = new AbortController();
    const silent = await rawMember(t, () => stop.abort());
    const swarm = await member(t, silent.port);
    assert.equal(await swarm.cohort.request(nar.torrent, { ...ASKING, signal: stop.signal }), undefined);
  });

  const breaches: Readonly<Record<string, (id: Buffer, torrent: NarTorrent) => Buffer>> = {
    'another size than the NAR has': (id) => part(id, 0x7fffffff, 0, randomBytes(10)),
    'a part out of order': (id, torrent) => part(id, torrent.sizeBytes, 1, randomBytes(10)),
    'more bytes than the size': (id, torrent) => part(id, torrent.sizeBytes, 0, randomBytes(torrent.sizeBytes + 1)),
    'an unknown kind': (id) => Buffer.concat([Buffer.of(9), id]),
    'an empty message': () => Buffer.alloc(0),
    'half a question': (id) => Buffer.concat([Buffer.of(1), id]),
  };
  for (const [what, breach] of Object.entries(breaches)) {
    test(`${what} ends the connection and the question`, async (t) => {
      const nar = await makeNar(t, 5000);
      const raw = await rawMember(t, (id, peer, exchangeId) => peer.extended(exchangeId, breach(id, nar.torrent)));
      const swarm = await member(t, raw.port);
      assert.equal(await swarm.cohort.request(nar.torrent, ASKING), undefined);
      await raw.peers[0]?.closed();
    });
  }

  test('a peer that takes the extension back is not spoken to over it', async (t) => {
    const nar = await makeNar(t, 1000);
    const seeder = await startSeeder(t, [nar.seed]);
    seeder.meet(COHORT);
    const peer = await RawPeer.connect(seeder.port, COHORT);
    t.after(() => peer.socket.destroy());
    const theirs = /12:nar_exchangei(\d+)e/.exec((await peer.receive(ID.EXTENDED)).toString('latin1'));
    peer.extended(0, 'd1:md12:nar_exchangei0eee');
    const ask = Buffer.concat([Buffer.of(1, 0, 0, 0, 1), Buffer.from('ab'.repeat(20), 'hex')]);
    peer.socket.write(message(ID.EXTENDED, Buffer.concat([Buffer.of(Number(theirs?.[1])), ask])));
    const swarm = await member(t, seeder.port);
    assert.deepEqual(Buffer.from((await swarm.cohort.request(nar.torrent, ASKING))!.bytes), nar.bytes);
  });

  test('a member that takes the extension back is not asked over it', async (t) => {
    const nar = await makeNar(t, 1000);
    const takesBack = await startRawSeed(COHORT, (peer) => {
      peer.extended(0, `d1:md12:nar_exchangei${EXCHANGE_ID}eee`);
      peer.onMessage(({ id, payload }) => {
        if (id === ID.EXTENDED && payload[0] === 0) peer.extended(0, 'd1:md12:nar_exchangei0eee');
      });
    });
    t.after(() => takesBack[Symbol.asyncDispose]());
    const seeder = await startSeeder(t, [nar.seed]);
    seeder.meet(COHORT);
    const swarm = await member(t, takesBack.port, seeder.port);
    await swarm.cohort.request((await makeNar(t, 10)).torrent, ASKING); // both connections stand now
    for (let turn = 0; turn < 3; turn++)
      assert.ok((await swarm.cohort.request(nar.torrent, ASKING)) !== undefined, `${turn}`);
  });

  test('a member on a slow line gets all that it asks for', async (t) => {
    const nars = await Promise.all(Array.from({ length: 24 }, () => makeNar(t, MIB)));
    const seeder = await startSeeder(
      t,
      nars.map(({ seed }) => seed),
    );
    seeder.meet(COHORT);
    const slow = await startSwarm(t, { downloadLimit: new RateLimit(5 * MIB) });
    slow.meet(COHORT);
    for (const peer of peersAt(slow, seeder.port)) slow.cohort.addMember(peer);
    const found = await Promise.all(nars.map((nar) => slow.cohort.request(nar.torrent, ASKING)));
    assert.equal(found.filter((one) => one !== undefined).length, nars.length);
  });

  test('parts that nobody asked for end the connection', async (t) => {
    const seeder = await startSeeder(t, []);
    seeder.meet(COHORT);
    const peer = await RawPeer.connect(seeder.port, COHORT);
    const theirs = /12:nar_exchangei(\d+)e/.exec((await peer.receive(ID.EXTENDED)).toString('latin1'));
    peer.extended(0, `d1:md12:nar_exchangei${EXCHANGE_ID}eee`);
    peer.socket.write(
      message(
        ID.EXTENDED,
        Buffer.concat([Buffer.of(Number(theirs?.[1])), part(Buffer.alloc(4, 9), 100, 0, Buffer.alloc(100))]),
      ),
    );
    await peer.closed();
  });

  test('a peer that asks for thousands of NARs and reads nothing is cut off', async (t) => {
    const seeder = await startSeeder(t, []);
    seeder.meet(COHORT);
    const peer = await RawPeer.connect(seeder.port, COHORT);
    peer.extended(0, `d1:md12:nar_exchangei${EXCHANGE_ID}eee`);
    peer.socket.pause();
    const ask = Buffer.concat([Buffer.of(0, 0, 0, 1), Buffer.from('ab'.repeat(20), 'hex')]);
    const theirs = /12:nar_exchangei(\d+)e/.exec(peer.messages.map((one) => one.payload.toString('latin1')).join(''));
    const id = Number(theirs?.[1] ?? 3);
    peer.socket.resume();
    peer.socket.write(
      message(ID.EXTENDED, Buffer.concat([Buffer.of(id, 1), ...Array.from({ length: 1500 }, () => ask)])),
    );
    await peer.closed();
  });

  test('metadata of a cohort is neither asked for nor taken', async (t) => {
    const seeder = await startSeeder(t, []);
    seeder.meet(COHORT);
    const peer = await RawPeer.connect(seeder.port, COHORT);
    t.after(() => peer.socket.destroy());
    peer.extended(0, 'd1:md11:ut_metadatai3ee13:metadata_sizei10000000ee');
    peer.extended(0, 'de');
    await peer.receive(ID.EXTENDED);
    await sleep(100);
    assert.ok(!peer.messages.some(({ payload }) => payload.includes('8:msg_type')));
  });

  test('what the seeder may not serve is not served here either', async (t) => {
    const nar = await makeNar(t, 1000);
    const seeder = await startSwarm(t, { seeds: () => Promise.resolve(undefined) });
    seeder.meet(COHORT);
    const swarm = await member(t, seeder.port);
    assert.equal(await swarm.cohort.request(nar.torrent, ASKING), undefined);
  });

  test('a member that connected to us over IPv4 goes by its IPv4 address, though the socket is of both families', async (t) => {
    const nar = await makeNar(t, 1000);
    const asker = await startSwarm(t, { host: '::' });
    asker.meet(COHORT);
    const holder = await startSeeder(t, [nar.seed]);
    holder.meet(COHORT);
    for (const peer of peersAt(holder, asker.port)) holder.cohort.addMember(peer);
    await untilConnected(holder);
    const found = await asker.cohort.request(nar.torrent, ASKING);
    assert.match(found?.address ?? '', /^127\.0\.0\.1:\d+$/);
  });

  test('whom the scope does not admit gets nothing over a connection that we made either', async (t) => {
    const nar = await makeNar(t, 1000);
    const asker = await startSwarm(t);
    asker.meet(COHORT);
    for (const [serves, isServed] of [
      ['lan', true],
      ['nobody', false],
    ] as const) {
      const holder = await startSeeder(t, [nar.seed], { serves });
      holder.meet(COHORT);
      for (const peer of peersAt(holder, asker.port)) holder.cohort.addMember(peer);
      await untilConnected(holder);
      assert.equal((await asker.cohort.request(nar.torrent, ASKING)) !== undefined, isServed);
      await holder.close();
    }
  });
});

/** Waits until the connection to a member stands: a NAR that nobody has is refused over it. */
async function untilConnected(swarm: Swarm): Promise<void> {
  const bytes = randomBytes(20);
  await swarm.cohort.request(torrentOf(bytes), ASKING);
}

suite('a torrent', () => {
  test('stays choked for a peer that we connected to and whom the scope does not admit', async (t) => {
    const nar = await makeNar(t, 1000);
    for (const [serves, answer] of [
      ['lan', ID.PIECE],
      ['nobody', ID.REJECT],
    ] as const) {
      const answered = Promise.withResolvers<void>();
      const raw = await startRawSeed(nar.torrent.infoHash, (peer) => {
        peer.onMessage(({ id }) => {
          if (id === ID.HAVE_ALL) peer.send(ID.INTERESTED);
          if (id === ID.UNCHOKE || (id === ID.HAVE_ALL && serves === 'nobody'))
            peer.send(ID.REQUEST, numbers(0, 0, 1000));
          if (id === answer) answered.resolve();
        });
      });
      t.after(() => raw[Symbol.asyncDispose]());
      const swarm = await startSwarm(t, { serves });
      const { download } = startDownload(t, swarm, nar.torrent, { have: () => true, storage: storageOf(nar.bytes) });
      await download.addPeers(peersAt(swarm, raw.port));
      await answered.promise;
    }
  });
});

function storageOf(bytes: Buffer): PieceStorage {
  return {
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
    write: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

test('more members than a process connects to are met and left in good order', { timeout: 20_000 }, async (t) => {
  const warnings: Error[] = [];
  const onProcessWarning = (warning: Error): void => void warnings.push(warning);
  process.on('warning', onProcessWarning);
  t.after(() => process.off('warning', onProcessWarning));
  const nar = await makeNar(t, 5000);
  const others = await Promise.all(Array.from({ length: 14 }, () => startSeeder(t, [nar.seed])));
  for (const other of others) other.meet(COHORT);
  const swarm = await member(t, ...others.map(({ port }) => port));
  const found = await swarm.cohort.request(nar.torrent, ASKING);
  assert.ok(found !== undefined && nar.bytes.equals(found.bytes));
  await swarm.close(); // the places that this frees are for nobody
  assert.deepEqual(warnings.map(String), []);
});
