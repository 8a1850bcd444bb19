import assert from 'node:assert/strict';
import type { Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';
import bencode from 'bencode';
import { Client } from 'bittorrent-dht';
import { GuardedSocket } from '../../../src/discovery/dht-guard.ts';
import { ForeignAddresses } from '../../../src/discovery/foreign-addresses.ts';
import { PacketBudget } from '../../../src/wire/packet-budget.ts';
import type { FuzzTarget } from '../target.ts';

const FROM = { address: '127.0.0.1', family: 'IPv4', port: 6881, size: 0 };
const id = Buffer.alloc(20, 1);

/** Packets of the DHT (BEP 5, BEP 44), given to the library through its guard. */
export function dht(): FuzzTarget {
  const udp = new SilentSocket();
  const everyPacket = { total: Infinity, perRange: Infinity, burst: Infinity, burstPerRange: Infinity };
  const addresses = new ForeignAddresses({ onLoopback: true });
  const socket = new GuardedSocket(udp as unknown as Socket, addresses, new PacketBudget(everyPacket));
  const client = new Client({ socket, bootstrap: [] });
  client.on('error', () => undefined);
  return {
    corpus: PACKETS.map((packet) => Buffer.from(bencode.encode(packet))),
    words: [
      '1:q',
      '1:r',
      '4:ping',
      '9:find_node',
      '9:get_peers',
      '3:get',
      '3:put',
      '5:nodes',
      'i-1e',
      'le',
      'de',
      '0:',
    ],
    read: (input) => void udp.emit('message', input, FROM),
    finish() {
      udp.sent.length = 0;
      udp.emit('message', Buffer.from(bencode.encode({ t: 'zz', y: 'q', q: 'ping', a: { id } })), FROM);
      assert.equal(udp.sent.length, 1, 'a ping is answered');
      client.destroy(() => undefined);
    },
  };
}

const PACKETS: readonly object[] = [
  { t: 'aa', y: 'q', q: 'ping', a: { id } },
  { t: 'ab', y: 'q', q: 'find_node', a: { id, target: id } },
  { t: 'ac', y: 'q', q: 'get_peers', a: { id, info_hash: id } },
  { t: 'ad', y: 'q', q: 'announce_peer', a: { id, info_hash: id, port: 6881, token: Buffer.alloc(20) } },
  { t: 'ae', y: 'q', q: 'get', a: { id, target: id } },
  {
    t: 'af',
    y: 'q',
    q: 'put',
    a: {
      id,
      k: Buffer.alloc(32),
      sig: Buffer.alloc(64),
      salt: 'desktop',
      seq: 1,
      token: Buffer.alloc(20),
      v: { ih: id },
    },
  },
  { t: Buffer.alloc(2), y: 'r', r: { id, nodes: Buffer.alloc(52, 7), values: [Buffer.alloc(6, 9)], token: 'x' } },
  { t: Buffer.alloc(2), y: 'e', e: [201, 'failure'] },
];

/** A UDP socket that reaches nobody and remembers the packets sent. */
class SilentSocket extends EventEmitter {
  readonly sent: Uint8Array[] = [];

  address(): object {
    return { address: '127.0.0.1', family: 'IPv4', port: 6882 };
  }

  send(packet: Uint8Array, ...rest: readonly unknown[]): void {
    this.sent.push(packet);
    if (this.sent.length > 16) this.sent.shift();
    const done = rest.at(-1);
    if (typeof done === 'function') process.nextTick(done);
  }

  close(done: () => void): void {
    done();
  }
}
