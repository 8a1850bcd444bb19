/** Filters packets between the network and bittorrent-dht, which trusts every packet. */
import type { RemoteInfo, Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';
import bencode from 'bencode';
import { DHT_PACKETS_PER_SECOND } from '../wire/bounds.ts';
import { PacketBudget } from '../wire/packet-budget.ts';
import { endOfValue, isBytes, isDictionary, type Fields } from '../torrent/bencoding.ts';
import { boundedAnswer, QueryCounts } from './dht-bounds.ts';
import type { ForeignAddresses } from './foreign-addresses.ts';

/**
 * Limit on a query. It carries an item of at most 1000 bytes (BEP 44), but the library checks that only for strings.
 */
const MAX_QUERY_BYTES = 2048;

/** Types of the fields of `a` and `r` that the library expects without a check (BEP 5, BEP 44). */
const FIELD_CHECKS: Readonly<Record<string, (value: unknown) => boolean>> = {
  id: isBytesOf(20),
  target: isBytesOf(20),
  info_hash: isBytesOf(20),
  k: isBytesOf(32),
  sig: isBytesOf(64),
  salt: isBytes,
  token: isBytes,
  nodes: isBytes,
  values: Array.isArray,
  seq: Number.isSafeInteger,
  cas: Number.isSafeInteger,
  port: Number.isSafeInteger,
};

/** A longer packet may have more nodes or peers than one answer allows: an id, a token and 8 nodes take 300 bytes. */
const SHORT_ANSWER_BYTES = 400;

/**
 * Wraps the UDP socket for the library. Passes on only sound packets, and not more than the library can handle. Limits
 * outgoing answers to as many nodes as in BEP 5.
 */
export class GuardedSocket extends EventEmitter {
  readonly #udp: Socket;
  readonly #addresses: ForeignAddresses;
  readonly #budget: PacketBudget;
  readonly #queries = new QueryCounts();
  #isOpen = true;

  /** @param addresses decides which nodes and peers named in answers are passed on */
  constructor(udp: Socket, addresses: ForeignAddresses, budget = new PacketBudget(DHT_PACKETS_PER_SECOND)) {
    super();
    this.#udp = udp;
    this.#addresses = addresses;
    this.#budget = budget;
    // UDP loses packets anyway: packets that cannot be sent or read count as lost.
    udp.on('error', () => {});
    udp.on('message', (packet, from) => this.#receive(packet, from));
  }

  address(): ReturnType<Socket['address']> {
    return this.#udp.address();
  }

  send(packet: Uint8Array, offset: number, length: number, port: number, host: string, done: () => void): void {
    if (!this.#isOpen) return;
    const sent = this.#bounded(packet.subarray(offset, offset + length));
    if (sent !== undefined) this.#udp.send(sent, 0, sent.length, port, host, done);
  }

  close(): void {
    this.#isOpen = false;
    this.#udp.close(() => this.emit('close'));
  }

  /** Returns the packet to send. Undefined for a query above the limit, which counts as unanswered. */
  #bounded(packet: Uint8Array): Uint8Array | undefined {
    const message = bencode.decode(packet) as Fields; // the library has just encoded it
    const { q, a } = message;
    if (isBytes(q) && isDictionary(a)) {
      const target = a['target'] ?? a['info_hash'];
      const isSearch = isBytes(target) && a['token'] === undefined;
      return !isSearch || this.#queries.admit(Buffer.from(q).toString('latin1'), target) ? packet : undefined;
    }
    if (packet.length <= SHORT_ANSWER_BYTES) return packet;
    const bounded = boundedAnswer(message, () => true);
    return bounded === message ? packet : bencode.encode(bounded);
  }

  #receive(packet: Buffer, from: RemoteInfo): void {
    if (!this.#isOpen || !this.#budget.admit(from.address, packet.length)) return;
    const message = soundMessage(packet);
    if (message === undefined) return;
    const bounded = boundedAnswer(message, (host) => this.#addresses.admitsForeign(host));
    try {
      this.emit('message', bounded === message ? packet : Buffer.from(bencode.encode(bounded)), from);
    } catch {
      // A stranger's packet may get lost, but must never end the process.
    }
  }
}

/** Reads a KRPC message (BEP 5) that is safe for the library: sound bencoding, and every field of the right type. */
function soundMessage(packet: Buffer): Fields | undefined {
  try {
    endOfValue(packet, 0);
    const message = bencode.decode(packet);
    if (!isDictionary(message)) return undefined;
    const { t, y, q, a, r, e } = message;
    if (!isBytes(t) || !isBytes(y)) return undefined;
    if (q !== undefined && (!isBytes(q) || packet.length > MAX_QUERY_BYTES)) return undefined;
    const hasSoundError =
      e === undefined || (Array.isArray(e) && e.every((part) => typeof part === 'number' || isBytes(part)));
    return hasSoundError && hasSoundFields(a) && hasSoundFields(r) ? message : undefined;
  } catch {
    return undefined;
  }
}

function hasSoundFields(fields: unknown): boolean {
  if (fields === undefined) return true;
  if (!isDictionary(fields)) return false;
  return Object.entries(FIELD_CHECKS).every(([name, check]) => fields[name] === undefined || check(fields[name]));
}

function isBytesOf(byteCount: number): (value: unknown) => boolean {
  return (value) => isBytes(value) && value.length === byteCount;
}
