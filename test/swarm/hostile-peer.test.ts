/** A stranger's messages to a seed may cost the stranger its connection, and others nothing. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Swarm } from '../../src/swarm/swarm.ts';
import { CLIENT_OPENING_MS } from '../../src/wire/bounds.ts';
import { ProcessorBudget } from '../../src/wire/processor-budget.ts';
import { handshakeOf, ID, message, numbers, RawPeer } from '../support/raw-peer.ts';
import { makeNar, MIB, PIECE, peersAt, startDownload, startSeeder, startSwarm, type TestNar } from './swarm-fixture.ts';

const LIMIT = { timeout: 180_000 };
const BLOCK = 16 * 1024;

async function seeding(t: TestContext, sizeBytes = 3 * PIECE): Promise<{ nar: TestNar; seeder: Swarm }> {
  const nar = await makeNar(t, sizeBytes);
  return { nar, seeder: await startSeeder(t, [nar.seed]) };
}

/** Returns true if the seeder still delivers the whole NAR. */
async function stillServes(t: TestContext, seeder: Swarm, nar: TestNar): Promise<boolean> {
  const client = await startSwarm(t);
  const { download, done } = await startDownload(t, client, nar.torrent);
  await download.addPeers(peersAt(client, seeder.port));
  return nar.bytes.equals(await done);
}

async function connect(t: TestContext, seeder: Swarm, nar: TestNar): Promise<RawPeer> {
  const peer = await RawPeer.connect(seeder.port, nar.torrent.infoHash);
  t.after(() => peer.socket.destroy());
  return peer;
}

async function unchoked(t: TestContext, seeder: Swarm, nar: TestNar): Promise<RawPeer> {
  const peer = await connect(t, seeder, nar);
  peer.send(ID.INTERESTED);
  await peer.receive(ID.UNCHOKE);
  return peer;
}

/** Returns the seeder's id of ut_metadata, from its extended handshake. */
async function metadataId(peer: RawPeer): Promise<number> {
  const handshake = await peer.receive(ID.EXTENDED);
  return Number(/11:ut_metadatai(\d+)e/.exec(handshake.toString('latin1'))?.[1]);
}

const UNSOUND: Readonly<Record<string, string>> = {
  'a string of negative length': 'l-3:',
  'a truncated dictionary': 'd1:m',
  'no bencoding at all': 'hello',
  nothing: '',
  'a nest of a thousand lists': 'l'.repeat(30_000),
  'a list where the dictionary has to be': 'le',
  'an m that is a number': 'd1:mi3ee',
  'an m of dictionaries with a toString of their own': 'd1:md11:ut_metadatad8:toStringi1eeee',
  'an m with another prototype': 'd1:md9:__proto__d11:ut_metadatad8:toStringi1eeeee',
};

for (const [name, payload] of Object.entries(UNSOUND)) {
  test(`an extended handshake that is ${name} ends the connection`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await connect(t, seeder, nar);
    peer.extended(0, payload);
    await peer.closed();
    assert.ok(await stillServes(t, seeder, nar));
  });
}

for (const [name, payload] of Object.entries(UNSOUND).slice(0, 6)) {
  test(`a ut_metadata message that is ${name} ends the connection`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await connect(t, seeder, nar);
    peer.extended(await metadataId(peer), payload);
    await peer.closed();
    assert.ok(await stillServes(t, seeder, nar));
  });
}

test('bytes after the value are a piece of metadata, and legal', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  const id = await metadataId(peer);
  peer.extended(0, 'd1:md11:ut_metadatai7eee');
  peer.extended(id, `d8:msg_typei1e5:piecei0e10:total_sizei9eel-3:l-3:`);
  peer.extended(id, 'd8:msg_typei0e5:piecei0ee');
  await peer.until(() => peer.messages.some(({ payload }) => payload[0] === 7));
});

test('endless extended handshakes end the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  for (let count = 0; count < 9; count++) peer.extended(0, 'd13:metadata_sizei1000ee');
  await peer.closed();
});

for (const lengthBytes of [0xff_ff_ff_ff, 0x7f_ff_ff_ff, 140_000]) {
  test(`a message that claims ${lengthBytes} bytes is not waited for`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await connect(t, seeder, nar);
    peer.socket.write(numbers(lengthBytes));
    await peer.closed();
  });
}

const BAD_REQUESTS: Readonly<Record<string, readonly [number, number, number]>> = {
  'no bytes': [0, 0, 0],
  'a negative length': [0, 0, -1],
  'a negative offset': [1, -BLOCK, BLOCK],
  'a negative piece': [-1, 0, BLOCK],
  'more than a client may ask for': [0, 0, 129 * 1024],
  'a piece beyond the last': [3, 0, BLOCK],
  'bytes beyond the end of a piece': [0, PIECE - 1, BLOCK],
  'bytes beyond the end of the torrent': [2, PIECE - 1, BLOCK],
};

for (const [name, request] of Object.entries(BAD_REQUESTS)) {
  test(`a request for ${name} ends the connection`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await unchoked(t, seeder, nar);
    peer.send(ID.REQUEST, numbers(...request));
    await peer.closed();
    assert.ok(!peer.messages.some(({ id }) => id === ID.PIECE));
  });
}

test('a peer that does not read gets no more than the window into memory', LIMIT, async (t) => {
  const nar = await makeNar(t, 64 * MIB);
  let uploadedBytes = 0;
  const seeder = await startSeeder(t, [nar.seed], { onUpload: (_infoHash, bytes) => (uploadedBytes += bytes) });
  const peer = await unchoked(t, seeder, nar);
  peer.socket.pause();
  const before = process.memoryUsage().arrayBuffers;
  for (let index = 0; index < 240; index++) {
    for (let at = 0; at < PIECE; at += 128 * 1024) peer.send(ID.REQUEST, numbers(index, at, 128 * 1024));
  }
  // Once the socket's own buffers are full, nothing is sent any more.
  for (let last = -1; last !== uploadedBytes;) {
    last = uploadedBytes;
    await sleep(300);
  }
  const grownMiB = (process.memoryUsage().arrayBuffers - before) / MIB;
  assert.ok(grownMiB < 16, `${grownMiB.toFixed(1)} MiB are held for a peer that reads nothing`);
  peer.socket.resume();
  await peer.until(() => peer.messages.filter(({ id }) => id === ID.PIECE).length === 480);
});

test('endless requests end the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  peer.socket.pause();
  const request = message(ID.REQUEST, numbers(0, 0, 128 * 1024));
  peer.socket.write(Buffer.concat(Array.from({ length: 4000 }, () => request)));
  peer.socket.resume();
  await assert.rejects(peer.until(() => peer.messages.filter(({ id }) => id === ID.PIECE).length >= 500));
});

test(
  'endless messages of one host are read no faster than they may be, and hold up no other host',
  LIMIT,
  async (t) => {
    let [hasTime, reads] = [false, 0];
    const clock = { nowMs: () => (hasTime ? performance.now() * 1000 : 0), usedMs: () => reads++ };
    const processor = new ProcessorBudget({ perSecondMs: 40, burstMs: 40 }, clock); // a read takes a millisecond or two
    const nar = await makeNar(t, 3 * PIECE);
    const seeder = await startSeeder(t, [nar.seed], { processor });
    const stranger = (): RawPeer => {
      const peer = new RawPeer(connectSocket({ port: seeder.port, host: '127.0.0.1', localAddress: '127.0.0.2' }));
      t.after(() => peer.socket.destroy());
      peer.socket.write(Buffer.concat([handshakeOf(nar.torrent.infoHash), message(ID.INTERESTED)]));
      return peer;
    };
    const peer = stranger();
    await peer.receive(ID.UNCHOKE);
    peer.socket.write(Buffer.alloc(32 * MIB, message(ID.HAVE, numbers(1))));
    while (!processor.of('127.0.0.2').isOver) await nextTurn();
    const other = stranger();
    await other.receive(ID.EXTENDED);
    other.send(ID.REQUEST, numbers(0, 0, BLOCK));
    assert.ok(await stillServes(t, seeder, nar));
    assert.ok(peer.socket.writableLength > 0, 'everything was read');
    assert.ok(!other.messages.some(({ id }) => id === ID.PIECE), 'its other connection was read');
    hasTime = true;
    await Promise.all([once(peer.socket, 'drain'), other.receive(ID.PIECE)]);
  },
);

test(
  'endless connections of one host are taken over no faster than they may be, and hold up no other host',
  LIMIT,
  async (t) => {
    let hasTime = false;
    const clock = { nowMs: () => (hasTime ? performance.now() * 1000 : 0), usedMs: () => 0 };
    const rate = { perSecondMs: 100 * CLIENT_OPENING_MS, burstMs: 2.5 * CLIENT_OPENING_MS }; // three at once
    const openings = new ProcessorBudget(rate, clock);
    const nar = await makeNar(t, 3 * PIECE);
    const seeder = await startSeeder(t, [nar.seed], { openings });
    const stranger = (): RawPeer => {
      const peer = new RawPeer(connectSocket({ port: seeder.port, host: '127.0.0.1', localAddress: '127.0.0.2' }));
      t.after(() => peer.socket.destroy());
      peer.socket.write(handshakeOf(nar.torrent.infoHash));
      return peer;
    };
    for (const peer of [stranger(), stranger(), stranger()]) {
      await peer.receive(ID.EXTENDED);
      peer.socket.destroy();
    }
    const late = stranger();
    await once(late.socket, 'connect');
    assert.ok(await stillServes(t, seeder, nar));
    assert.equal(late.infoHash, '', 'its handshake was answered');
    hasTime = true;
    await late.receive(ID.EXTENDED);
  },
);

for (const [side, name] of [
  ['client', 'blocks that we asked for take no time of their host'],
  ['seeder', 'requests of blocks that a peer takes take no time of its host'],
] as const)
  test(name, LIMIT, async (t) => {
    let reads = 0;
    const clock = { nowMs: () => 0, usedMs: () => reads++ };
    const processor = new ProcessorBudget({ perSecondMs: 40, burstMs: 40 }, clock); // for 40 reads at most
    const nar = await makeNar(t, 16 * MIB);
    const seeder = await startSeeder(t, [nar.seed], side === 'seeder' ? { processor } : {});
    const client = await startSwarm(t, side === 'client' ? { processor } : {});
    const { download, done } = await startDownload(t, client, nar.torrent);
    await download.addPeers(peersAt(client, seeder.port));
    assert.ok(nar.bytes.equals(await done));
  });

test('unread answers do not pile up', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  const id = await metadataId(peer);
  peer.extended(0, 'd1:md11:ut_metadatai7eee');
  peer.socket.pause();
  const ask = message(ID.EXTENDED, Buffer.concat([Buffer.from([id]), Buffer.from('d8:msg_typei0e5:piecei0ee')]));
  const many = Buffer.concat(Array.from({ length: 20_000 }, () => ask));
  const error = new Promise((resolve) => peer.socket.once('error', resolve).once('close', resolve));
  const timer = setInterval(() => peer.socket.write(many), 20);
  t.after(() => clearInterval(timer));
  await error;
});

test('unrequested blocks are no merit, and many of them end the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  const block = Buffer.concat([numbers(0, 0), randomBytes(BLOCK)]);
  for (let sent = 0; sent <= 4 * MIB; sent += BLOCK) peer.send(ID.PIECE, block);
  peer.send(ID.REQUEST, numbers(0, 0, BLOCK));
  await assert.rejects(peer.receive(ID.PIECE));
});

const UNSOUND_MESSAGES: Readonly<Record<string, readonly [id: number, payload: Uint8Array]>> = {
  'a HAVE of a piece beyond the last': [ID.HAVE, numbers(3)],
  'a HAVE of the highest index': [ID.HAVE, numbers(0x0f_ff_ff_ff)],
  'a HAVE of a negative index': [ID.HAVE, numbers(-1)],
  'a HAVE without an index': [ID.HAVE, Buffer.alloc(0)],
  'a bitfield of too many pieces': [ID.BITFIELD, Buffer.alloc(100_000, 0xff)],
  'an empty bitfield': [ID.BITFIELD, Buffer.alloc(0)],
  'a SUGGEST of a piece beyond the last': [13, numbers(3)],
  'an ALLOWED FAST of a piece beyond the last': [17, numbers(0x0f_ff_ff_ff)],
  'a CANCEL beyond the end': [8, numbers(9, 0, BLOCK)],
  'a REJECT beyond the end': [ID.REJECT, numbers(0, 0x7f_ff_ff_ff, BLOCK)],
  'a PIECE without a block': [ID.PIECE, numbers(0, 0)],
  'a PIECE beyond the end': [ID.PIECE, Buffer.concat([numbers(2, PIECE), Buffer.alloc(9)])],
  'an extension without a number': [ID.EXTENDED, Buffer.alloc(0)],
  'a don’t have of a piece beyond the last': [ID.EXTENDED, Buffer.concat([Buffer.of(2), numbers(0x0f_ff_ff_ff)])],
  'metadata of ten megabytes': [ID.EXTENDED, Buffer.from('\0d13:metadata_sizei10000000ee')],
  'an id of an extension that no byte holds': [ID.EXTENDED, Buffer.from('\0d1:md6:ut_pexi256eee')],
  'a piece of metadata that is a text': [ID.EXTENDED, Buffer.from('\x01d8:msg_typei0e5:piece1:0e')],
};

for (const [name, [id, payload]] of Object.entries(UNSOUND_MESSAGES)) {
  test(`${name} ends the connection, and nothing after it is read`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await unchoked(t, seeder, nar);
    peer.socket.write(Buffer.concat([message(id, payload), message(ID.REQUEST, numbers(0, 0, BLOCK))]));
    await assert.rejects(peer.receive(ID.PIECE));
    assert.ok(await stillServes(t, seeder, nar));
  });
}

test('messages too short for their kind do no harm', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  for (const id of [9, 21, 255]) peer.send(id);
  await sleep(50);
  assert.ok(await stillServes(t, seeder, nar));
});

test('messages right after a handshake are read', LIMIT, async (t) => {
  const nar = await makeNar(t, 3 * PIECE);
  const seeds = async (): Promise<typeof nar.seed> => {
    await sleep(50); // the gate reads a narinfo
    return nar.seed;
  };
  const seeder = await startSwarm(t, { seeds });
  const rest = Buffer.concat([message(ID.HAVE_ALL), message(ID.INTERESTED), message(ID.REQUEST, numbers(0, 0, BLOCK))]);
  const peer = await RawPeer.open(seeder.port, nar.torrent.infoHash, rest);
  t.after(() => peer.socket.destroy());
  await peer.receive(ID.UNCHOKE);
});

test('messages wait in the socket until the torrent is open', LIMIT, async (t) => {
  const seeder = await startSwarm(t, { seeds: () => new Promise(() => undefined) });
  const peer = await RawPeer.open(seeder.port, 'a'.repeat(40) as never);
  for (let sent = 0; sent < 64; sent++) peer.socket.write(Buffer.alloc(MIB));
  t.after(() => peer.socket.destroy());
  let left = -1;
  do {
    left = peer.socket.writableLength;
    await sleep(300); // until the buffers of both sockets are full
  } while (peer.socket.writableLength !== left);
  assert.ok(left > 32 * MIB, `${64 * MIB - left} bytes were taken`);
});

test('garbage instead of a handshake ends the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  for (const garbage of [Buffer.alloc(1), Buffer.from('\x13BitTorrent protocoL'), randomBytes(4096)]) {
    const peer = await RawPeer.open(seeder.port, nar.torrent.infoHash);
    peer.socket.destroy();
    const { socket } = await RawPeer.open(seeder.port, '' as never, garbage);
    socket.end();
  }
  assert.ok(await stillServes(t, seeder, nar));
});
