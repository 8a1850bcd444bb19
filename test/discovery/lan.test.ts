/* oxlint-disable typescript/no-unsafe-type-assertion -- packets and brands made here */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import type { InfoHash } from '../../src/nix/brands.ts';
import type { Endpoint } from '../../src/discovery/endpoint.ts';
import { formatAnnouncements, parseAnnouncement, QUESTION } from '../../src/discovery/lan-announcement.ts';
import { LanDiscovery } from '../../src/discovery/lan.ts';
import type { LanDiscoveryOptions } from '../../src/discovery/lan.ts';

const LOOPBACK = '127.0.0.1';
const GROUP = '239.192.152.143';
const OURS = hash('a');
const THEIRS = hash('b');
/** Time after which no answer is to be expected. */
const LONGEST_DELAY_MS = 600;

function hash(digit: string): InfoHash {
  return digit.repeat(40) as InfoHash;
}

function announcement(port: number, cookie: string, ...infoHashes: InfoHash[]): Buffer {
  const [packet] = formatAnnouncements(port, cookie, infoHashes);
  assert.ok(packet);
  return packet;
}

/** Binds a UDP socket that is closed when the test is over. */
async function bind(t: TestContext, port = 0, address = LOOPBACK): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: port !== 0 });
  t.after(() => socket.close());
  socket.bind(port, address);
  await once(socket, 'listening');
  return socket;
}

/** Returns a UDP port that nothing listens on, so that tests do not hear each other. */
async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '0.0.0.0');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

/** A neighbour made of one socket: sends given packets and receives those of the group. */
async function rawNeighbour(t: TestContext, groupPort: number) {
  const receiver = await bind(t, groupPort, '0.0.0.0');
  receiver.addMembership(GROUP, LOOPBACK);
  const sender = await bind(t);
  sender.setMulticastInterface(LOOPBACK);
  const heard: string[] = [];
  receiver.on('message', (packet) => heard.push(packet.toString()));
  const send = (packet: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      sender.send(packet, groupPort, GROUP, (error) => (error ? reject(error) : resolve()));
    });
  return { receiver, send, heard };
}

/** Starts discovery on loopback; `next()` waits for the next report of a peer. */
async function discover(t: TestContext, options: Partial<LanDiscoveryOptions> & { groupPort: number }) {
  const reports: { peer: Endpoint; infoHash: InfoHash }[] = [];
  const waiting: (() => void)[] = [];
  const discovery = await LanDiscovery.start({
    peerPort: 7001,
    infoHashes: () => [OURS],
    interfaceAddress: LOOPBACK,
    onPeer: (peer, infoHash) => {
      reports.push({ peer, infoHash });
      waiting.shift()?.();
    },
    onWarning: (error) => assert.fail(error),
    ...options,
  });
  t.after(() => discovery.close());
  const next = async () => {
    if (reports.length === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    return reports.shift();
  };
  return { discovery, reports, next };
}

test('two hosts find each other, even if the first announced itself too early', async (t) => {
  const groupPort = await freePort();
  const first = await discover(t, { groupPort, peerPort: 7001 });
  const second = await discover(t, { groupPort, peerPort: 7002, infoHashes: () => [THEIRS, OURS] });
  assert.deepEqual(await first.next(), { peer: { host: LOOPBACK, port: 7002 }, infoHash: OURS });
  assert.deepEqual(await second.next(), { peer: { host: LOOPBACK, port: 7001 }, infoHash: OURS });
});

test('announces again after the interval', async (t) => {
  const groupPort = await freePort();
  const { receiver } = await rawNeighbour(t, groupPort);
  const first = once(receiver, 'message');
  await discover(t, { groupPort, intervalMs: 10 });
  const [packet] = await first;
  const startedAt = performance.now();
  const [again] = await once(receiver, 'message');
  assert.deepEqual(packet, again);
  assert.ok(performance.now() - startedAt > 900, 'at most one announcement a second');
});

test('announce() sends soon, and many calls send once', async (t) => {
  const groupPort = await freePort();
  const { receiver, heard } = await rawNeighbour(t, groupPort);
  const first = once(receiver, 'message');
  const { discovery } = await discover(t, { groupPort });
  await first;
  for (let count = 0; count < 10; count++) discovery.announce();
  await once(receiver, 'message');
  assert.equal(heard.length, 2);
});

test('reports only our own infohashes, and survives malformed packets', async (t) => {
  const groupPort = await freePort();
  const { send } = await rawNeighbour(t, groupPort);
  const { reports, next } = await discover(t, { groupPort });
  await send(announcement(9, 'x', THEIRS));
  await send(Buffer.from('garbage'));
  await send(Buffer.alloc(0));
  await send(announcement(8, 'x', OURS));
  assert.deepEqual(await next(), { peer: { host: LOOPBACK, port: 8 }, infoHash: OURS });
  assert.deepEqual(reports, []);
});

test('ignores its own packets', async (t) => {
  const groupPort = await freePort();
  const { receiver, send } = await rawNeighbour(t, groupPort);
  const own = once(receiver, 'message');
  const { reports, next } = await discover(t, { groupPort });
  await own;
  await send(announcement(8, 'x', OURS));
  assert.equal((await next())?.peer.port, 8);
  assert.deepEqual(reports, []);
});

test('answers a neighbour once, and again after its restart', async (t) => {
  const groupPort = await freePort();
  const { receiver, send, heard } = await rawNeighbour(t, groupPort);
  const hearOurs = async () => {
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop
      const [packet] = await once(receiver, 'message');
      if (String(packet).includes('Port: 7001')) return;
    }
  };
  const started = hearOurs();
  const { next } = await discover(t, { groupPort });
  await started;
  const answers = () => heard.filter((text) => text.includes('Port: 7001')).length;
  for (const cookie of ['before', 'after']) {
    const answer = hearOurs();
    // oxlint-disable-next-line no-await-in-loop
    await send(announcement(8, cookie, OURS));
    // oxlint-disable-next-line no-await-in-loop
    await Promise.all([next(), answer]);
  }
  await send(announcement(8, 'after', OURS));
  await next();
  await sleep(LONGEST_DELAY_MS);
  assert.equal(answers(), 3);
});

test('announces itself if somebody asks', { timeout: 180_000 }, async (t) => {
  const groupPort = await freePort();
  const asking = await rawNeighbour(t, groupPort);
  await discover(t, { groupPort });
  // By the interval alone, which doubles, so many announcements would take a quarter of an hour.
  for (let count = 1; count <= 10; count++) {
    while (asking.heard.filter((one) => one.startsWith('BT-SEARCH')).length < count)
      await once(asking.receiver, 'message');
    await asking.send(Buffer.from(`${QUESTION}${count}`));
  }
});

test('with announces: false it listens and stays silent', async (t) => {
  const groupPort = await freePort();
  const { send, heard } = await rawNeighbour(t, groupPort);
  const { discovery, next } = await discover(t, { groupPort, announces: false });
  discovery.announce();
  await send(announcement(8, 'x', OURS));
  await next();
  assert.equal(heard.length, 1);
});

/** Waits for the next warning, which comes at the second attempt. */
function warning(): { onWarning: (error: Error) => void; first: Promise<Error> } {
  const { promise, resolve } = Promise.withResolvers<Error>();
  return { onWarning: resolve, first: promise };
}

test('a missing interface is a warning', async (t) => {
  const { onWarning, first } = warning();
  await discover(t, { groupPort: await freePort(), interfaceAddress: '192.0.2.77', followMs: 50, onWarning });
  assert.match((await first).message, /EADDRNOTAVAIL/);
});

test('a port that another program holds is a warning', async (t) => {
  const taken = createSocket({ type: 'udp4', reuseAddr: false });
  t.after(() => taken.close());
  taken.bind(0, '0.0.0.0');
  await once(taken, 'listening');
  const { onWarning, first } = warning();
  await discover(t, { groupPort: taken.address().port, followMs: 50, onWarning });
  assert.match((await first).message, /EADDRINUSE/);
});

/** Returns the timers that keep the process alive. */
function timerCount(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
}

test('close frees the port, may be called twice, and leaves nothing due', async (t) => {
  const groupPort = await freePort();
  const before = timerCount();
  const { discovery } = await discover(t, { groupPort });
  await discovery.close();
  await discovery.close();
  discovery.announce();
  assert.equal(timerCount(), before);
  const taken = createSocket({ type: 'udp4', reuseAddr: false });
  t.after(() => taken.close());
  taken.bind(groupPort, '0.0.0.0');
  await once(taken, 'listening');
});

test('a packet is as in BEP 14', () => {
  assert.deepEqual(formatAnnouncements(6881, 'c', [OURS, THEIRS]).map(String), [
    `BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: ${OURS}\r\n` +
      `Infohash: ${THEIRS}\r\ncookie: c\r\n\r\n\r\n`,
  ]);
  const group = { host: 'ff15::efc0:988f', port: 6771 };
  assert.match(String(formatAnnouncements(6881, 'c', [OURS], group)[0]), /\r\nHost: \[ff15::efc0:988f\]:6771\r\n/);
  assert.deepEqual(formatAnnouncements(6881, 'c', []), []);
});

test('many infohashes are sent in packets of at most 1400 bytes', () => {
  const infoHashes = Array.from({ length: 100 }, (_, index) => index.toString(16).padStart(40, '0') as InfoHash);
  const packets = formatAnnouncements(65_535, 'narswarm-0123456789abcdef', infoHashes);
  for (const packet of packets) assert.ok(packet.length <= 1400);
  assert.ok((packets[0]?.length ?? 0) > 1400 - 52);
  assert.deepEqual(
    packets.flatMap((packet) => parseAnnouncement(packet, LOOPBACK)?.infoHashes),
    infoHashes,
  );
});

test('reads packets of other clients: any case, any order, no cookie, unknown headers', () => {
  const text = `BT-SEARCH * HTTP/1.1\r\nX-New: 1\r\ninfohash:${OURS.toUpperCase()}\r\nPORT:  80 \r\n\r\n\r\n`;
  assert.deepEqual(parseAnnouncement(Buffer.from(text), '10.0.0.9'), {
    peer: { host: '10.0.0.9', port: 80 },
    cookie: '',
    infoHashes: [OURS],
  });
});

const BAD: readonly (readonly [why: string, text: string])[] = [
  ['port 0', String(announcement(0, '', OURS))],
  ['port 65536', String(announcement(65_536, '', OURS))],
  ['no port', String(announcement(80, '', OURS)).replace('Port', 'Part')],
  ['a short infohash', String(announcement(80, '', OURS)).replace('aa', '')],
  ['another request', String(announcement(80, '', OURS)).replace('BT-', 'M-')],
];

for (const [why, text] of BAD) {
  test(`ignores ${why}`, () => assert.equal(parseAnnouncement(Buffer.from(text), '10.0.0.1'), undefined));
}

test('garbage never throws', () => {
  const line = fc.constantFrom('BT-SEARCH * HTTP/1.1', 'Port: 1', `Infohash: ${OURS}`, ':', '', 'cookie:', '\0');
  const text = fc.array(fc.oneof(line, fc.string()), { maxLength: 8 }).map((lines) => lines.join('\r\n'));
  fc.assert(fc.property(text, (packet) => void parseAnnouncement(Buffer.from(packet), LOOPBACK)));
});
