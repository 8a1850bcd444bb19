/** What a stranger may send to a seed: it costs him his connection, and nobody else anything. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Swarm } from '../../src/torrent/swarm.ts';
import { ID, message, numbers, RawPeer } from '../support/raw-peer.ts';
import { makeNar, MIB, peersAt, startDownload, startSeeder, startSwarm, type TestNar } from './swarm-fixture.ts';

const LIMIT = { timeout: 20_000 };
const BLOCK = 16 * 1024;

async function seeding(t: TestContext, sizeBytes = 3 * MIB): Promise<{ nar: TestNar; seeder: Swarm }> {
  const nar = await makeNar(t, sizeBytes);
  return { nar, seeder: await startSeeder(t, [nar.seed]) };
}

/** True where the seeder still delivers the whole NAR. */
async function stillServes(t: TestContext, seeder: Swarm, nar: TestNar): Promise<boolean> {
  const client = await startSwarm(t);
  const { download, done } = startDownload(t, client, nar.torrent);
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

/** The number by which the seeder knows ut_metadata, from its extended handshake. */
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

test('bytes behind the value are a piece of metadata, and legal', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  const id = await metadataId(peer);
  peer.extended(0, 'd1:md11:ut_metadatai7eee');
  peer.extended(id, `d8:msg_typei1e5:piecei0e10:total_sizei9eel-3:l-3:`);
  peer.extended(id, 'd8:msg_typei0e5:piecei0ee');
  await peer.until(() => peer.messages.some(({ payload }) => payload[0] === 7));
});

test('extended handshakes without end are refused', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  for (let count = 0; count < 9; count++) peer.extended(0, 'd13:metadata_sizei10000000ee');
  await peer.closed();
});

for (const lengthBytes of [0xff_ff_ff_ff, 0x7f_ff_ff_ff, 140_000]) {
  test(`a message that says to have ${lengthBytes} bytes is not waited for`, LIMIT, async (t) => {
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

for (const [name, request] of Object.entries({
  'a piece beyond the last': [99, 0, BLOCK],
  'bytes beyond the end of a piece': [0, MIB - 1, BLOCK],
  'bytes beyond the end of the torrent': [2, MIB - 1, BLOCK],
})) {
  test(`a request for ${name} is turned down`, LIMIT, async (t) => {
    const { nar, seeder } = await seeding(t);
    const peer = await unchoked(t, seeder, nar);
    peer.send(ID.REQUEST, numbers(...request));
    assert.deepEqual(await peer.receive(ID.REJECT), numbers(...request));
  });
}

test('whoever asks and does not read gets no more than the window into memory', LIMIT, async (t) => {
  const nar = await makeNar(t, 64 * MIB);
  let uploadedBytes = 0;
  const seeder = await startSeeder(t, [nar.seed], { onUpload: (_infoHash, bytes) => (uploadedBytes += bytes) });
  const peer = await unchoked(t, seeder, nar);
  peer.socket.pause();
  const before = process.memoryUsage().arrayBuffers;
  for (let index = 0; index < 60; index++) {
    for (let at = 0; at < MIB; at += 128 * 1024) peer.send(ID.REQUEST, numbers(index, at, 128 * 1024));
  }
  // Once the socket's own buffers are full nothing moves any more.
  for (let last = -1; last !== uploadedBytes;) {
    last = uploadedBytes;
    await sleep(300);
  }
  const grownMiB = (process.memoryUsage().arrayBuffers - before) / MIB;
  assert.ok(grownMiB < 16, `${grownMiB.toFixed(1)} MiB are held for a peer that reads nothing`);
  peer.socket.resume();
  await peer.until(() => peer.messages.filter(({ id }) => id === ID.PIECE).length === 480);
});

test('requests without end are refused', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  peer.socket.pause();
  const request = message(ID.REQUEST, numbers(0, 0, 128 * 1024));
  peer.socket.write(Buffer.concat(Array.from({ length: 4000 }, () => request)));
  peer.socket.resume();
  await peer.closed();
});

test('answers that nobody reads do not pile up', LIMIT, async (t) => {
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

test('blocks that nobody asked for are no merit, and many of them end the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await connect(t, seeder, nar);
  const block = Buffer.concat([numbers(0, 0), randomBytes(BLOCK)]);
  for (let sent = 0; sent <= 4 * MIB; sent += BLOCK) peer.send(ID.PIECE, block);
  await peer.closed();
});

test('haves and bitfields of pieces that do not exist do no harm', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  peer.send(ID.BITFIELD, Buffer.alloc(100_000, 0xff));
  for (const index of [-1, 3, 0x7f_ff_ff_ff, 400_001]) peer.send(ID.HAVE, numbers(index));
  peer.send(ID.REQUEST, numbers(0, 0, BLOCK));
  assert.equal((await peer.receive(ID.PIECE)).length, 8 + BLOCK);
});

test('messages too short for their kind do no harm', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  const peer = await unchoked(t, seeder, nar);
  for (const id of [ID.HAVE, ID.PIECE, ID.REJECT, 8, 9, 13, 17, 21, 255]) peer.send(id);
  await sleep(50);
  assert.ok(await stillServes(t, seeder, nar));
});

test('what an eager peer sends right behind its handshake is heard', LIMIT, async (t) => {
  const nar = await makeNar(t, 3 * MIB);
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

test('an eager peer cannot make us buffer without end', LIMIT, async (t) => {
  const seeder = await startSwarm(t, { seeds: () => new Promise(() => undefined) });
  const peer = await RawPeer.open(seeder.port, 'a'.repeat(40) as never, Buffer.alloc(200_000));
  t.after(() => peer.socket.destroy());
  await peer.closed();
});

test('garbage in place of a handshake ends the connection', LIMIT, async (t) => {
  const { nar, seeder } = await seeding(t);
  for (const garbage of [Buffer.alloc(1), Buffer.from('\x13BitTorrent protocoL'), randomBytes(4096)]) {
    const peer = await RawPeer.open(seeder.port, nar.torrent.infoHash);
    peer.socket.destroy();
    const { socket } = await RawPeer.open(seeder.port, '' as never, garbage);
    socket.end();
  }
  assert.ok(await stillServes(t, seeder, nar));
});
