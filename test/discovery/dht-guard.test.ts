/** Packets that the guarded socket passes on to bittorrent-dht. */
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import bencode from 'bencode';
import { GuardedSocket } from '../../src/discovery/dht-guard.ts';
import { ForeignAddresses } from '../../src/discovery/foreign-addresses.ts';
import { DHT_PACKETS_PER_SECOND } from '../../src/wire/bounds.ts';
import { PacketBudget } from '../../src/wire/packet-budget.ts';

const LIMIT = { timeout: 180_000 };
const ID = Buffer.alloc(20, 1);
const PING = Buffer.from(bencode.encode({ t: 'aa', y: 'q', q: 'ping', a: { id: ID } }));

interface Packet {
  readonly packet: Buffer;
  readonly from: string;
}

/**
 * Sends packets to a guarded socket, one after another.
 *
 * @returns the packets that reach the library, up to the first one from the address of the last
 */
async function passed(t: TestContext, packets: readonly Packet[], rates = DHT_PACKETS_PER_SECOND): Promise<Packet[]> {
  const udp = createSocket('udp4').bind(0, '127.0.0.1');
  await once(udp, 'listening');
  const addresses = new ForeignAddresses({ onLoopback: false });
  const guard = new GuardedSocket(udp, addresses, new PacketBudget(rates, () => 0));
  t.after(() => guard.close());
  const seen: Packet[] = [];
  const { promise: isLast, resolve } = Promise.withResolvers<void>();
  guard.on('message', (packet: Buffer, { address }: RemoteInfo) => {
    seen.push({ packet, from: address });
    if (address === packets.at(-1)?.from) resolve();
  });
  for (const { packet, from } of packets) {
    const sender = createSocket('udp4').bind(0, from);
    t.after(() => sender.close());
    await once(sender, 'listening');
    await new Promise((sent) => sender.send(packet, udp.address().port, '127.0.0.1', sent));
  }
  await isLast;
  return seen;
}

test('the library reads sound packets only', LIMIT, async (t) => {
  const unsound = ['', 'd', 'le', 'd1:t2:aae', 'd1:ad2:id3:xyze1:q4:ping1:t2:aa1:y1:qe'];
  const last = { packet: PING, from: '127.0.1.1' };
  const packets = unsound.map((text) => ({ packet: Buffer.from(text), from: '127.0.0.1' }));
  assert.deepEqual(await passed(t, [...packets, last]), [last]);
});

test('a flooding network is read up to its share, and others are heard', LIMIT, async (t) => {
  const flood = Array.from({ length: 9 }, () => ({ packet: PING, from: '127.0.0.1' }));
  const last = { packet: PING, from: '127.0.1.1' };
  const rates = { total: 1, perRange: 1, burst: 100, burstPerRange: 3 };
  assert.deepEqual(await passed(t, [...flood, last], rates), [...flood.slice(0, 3), last]);
});

test('a long packet counts as several, since it takes longer to read', LIMIT, async (t) => {
  const padding = Buffer.alloc(3000);
  const long = Buffer.from(bencode.encode({ r: { id: ID, padding }, t: 'aa', y: 'r' }));
  const flood = Array.from({ length: 9 }, () => ({ packet: long, from: '127.0.0.1' }));
  const last = { packet: PING, from: '127.0.1.1' };
  const rates = { total: 1, perRange: 1, burst: 100, burstPerRange: 7 };
  assert.deepEqual(await passed(t, [...flood, last], rates), [...flood.slice(0, 2), last]);
});

test('no answer leads the library to loopback or to this machine', LIMIT, async (t) => {
  const values = ['127.0.0.1', '198.51.100.7'].map((host) => Buffer.from([...host.split('.').map(Number), 26, 225]));
  const answer = (peers: readonly Buffer[]): Buffer =>
    Buffer.from(bencode.encode({ r: { id: ID, values: peers }, t: 'aa', y: 'r' }));
  const [seen] = await passed(t, [{ packet: answer(values), from: '127.0.0.1' }]);
  assert.deepEqual(seen?.packet, answer(values.slice(1)));
});
