/** What stands between the network and bittorrent-dht, which trusts every packet. */
import type { RemoteInfo, Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';
import bencode from 'bencode';
import { endOfValue, isBytes, isDictionary } from './bencoding.ts';

/** Queries hold an item of at most 1000 bytes (BEP 44); the library checks that of strings only. */
const MAX_QUERY_BYTES = 2048;

/** What the library takes these fields of `a` and `r` to be, without a check of its own (BEP 5, BEP 44). */
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

/** Stands between the UDP socket and the library, which gets to see sound packets only. */
export class GuardedSocket extends EventEmitter {
  readonly #udp: Socket;
  #isOpen = true;

  constructor(udp: Socket) {
    super();
    this.#udp = udp;
    // UDP loses packets anyway: what cannot be sent or read counts as lost.
    udp.on('error', () => {});
    udp.on('message', (packet, from) => this.#receive(packet, from));
  }

  address(): ReturnType<Socket['address']> {
    return this.#udp.address();
  }

  send(packet: Uint8Array, offset: number, length: number, port: number, host: string, done: () => void): void {
    if (this.#isOpen) this.#udp.send(packet, offset, length, port, host, done);
  }

  close(): void {
    this.#isOpen = false;
    this.#udp.close(() => this.emit('close'));
  }

  #receive(packet: Buffer, from: RemoteInfo): void {
    if (!this.#isOpen || !isSoundPacket(packet)) return;
    try {
      this.emit('message', packet, from);
    } catch {
      // What a stranger sent may cost one packet, never the process.
    }
  }
}
/** True for a KRPC message (BEP 5) that the library can read: sound bencoding, and every field of its type. */
function isSoundPacket(packet: Buffer): boolean {
  try {
    endOfValue(packet, 0);
    const message = bencode.decode(packet);
    if (!isDictionary(message)) return false;
    const { t, y, q, a, r, e } = message;
    if (!isBytes(t) || !isBytes(y)) return false;
    if (q !== undefined && (!isBytes(q) || packet.length > MAX_QUERY_BYTES)) return false;
    const hasSoundError =
      e === undefined || (Array.isArray(e) && e.every((part) => typeof part === 'number' || isBytes(part)));
    return hasSoundError && hasSoundFields(a) && hasSoundFields(r);
  } catch {
    return false;
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
