import type Wire from 'bittorrent-protocol';
import { hostKeyOf } from '../wire/address-range.ts';
import { MAX_BLOCK_BYTES, MAX_UNSENT_BYTES, UNREAD_MS } from '../wire/bounds.ts';
import { stateOf } from './wire-state.ts';

/** How soon those who wait for memory are looked at again. */
const LOOK_AGAIN_MS = 50;
/** Held bytes are measured at most this often: it takes a millisecond for two thousand connections. */
const MEASURE_EVERY_MS = 5;
/** Bytes that a waiting request takes: three numbers in a list. */
const WAITING_REQUEST_BYTES = 100;

/**
 * Bounds the memory of all peers together that ask and do not read. Within it everybody is answered at once. Beyond it
 * hosts that hold less than an equal share still are, so the bound is twice the budget; the others wait in turn, and
 * peers that have read nothing for a while are disconnected.
 */
export class UploadBudget {
  readonly #maxBytes: number;
  readonly #wires = new Map<Wire, Host>();
  readonly #hosts = new Map<string, Host>();
  readonly #waiting = new Map<Wire, () => void>();
  /** Held when it was last measured, and granted since then. */
  #measuredBytes = 0;
  #grantedBytes = 0;
  #measuredAtMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(maxBytes = MAX_UNSENT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Counts a connection from now until it is closed. */
  add(wire: Wire): void {
    const key = hostKeyOf(stateOf(wire).connection?.remoteAddress ?? '');
    const host = this.#hosts.get(key) ?? { connections: 0, heldBytes: 0 };
    host.connections++;
    this.#hosts.set(key, host);
    this.#wires.set(wire, host);
    wire.once('close', () => {
      if (--host.connections === 0) this.#hosts.delete(key);
      this.#wires.delete(wire);
      this.#waiting.delete(wire);
    });
  }

  /** Counts a request that waits. */
  noteRequest(): void {
    this.#grantedBytes += WAITING_REQUEST_BYTES;
    if (this.#isOver(0)) this.#lookSoon();
  }

  /**
   * Asks for room for an answer.
   *
   * @param resume called once there may be room, if there is none now
   */
  take(wire: Wire, bytes: number, resume: () => void): boolean {
    if (this.#isOver(bytes) && performance.now() - this.#measuredAtMs > MEASURE_EVERY_MS) this.#measure();
    const host = this.#wires.get(wire);
    if (host === undefined) return false; // it is closed
    if (this.#isOver(bytes) && host.heldBytes + bytes > this.#maxBytes / this.#hosts.size) {
      this.#waiting.set(wire, resume);
      this.#lookSoon();
      return false;
    }
    this.#grantedBytes += bytes;
    host.heldBytes += bytes;
    return true;
  }

  #isOver(bytes: number): boolean {
    return this.#measuredBytes + this.#grantedBytes + bytes > this.#maxBytes;
  }

  /** Nothing is counted down: what is held is looked up when it matters, so no path can forget to. */
  #measure(): void {
    this.#measuredAtMs = performance.now();
    this.#measuredBytes = 0;
    this.#grantedBytes = 0;
    for (const host of this.#hosts.values()) host.heldBytes = 0;
    for (const [wire, host] of this.#wires) {
      const bytes = heldBytes(wire);
      host.heldBytes += bytes;
      this.#measuredBytes += bytes;
    }
  }

  #lookSoon(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#look(), LOOK_AGAIN_MS).unref();
  }

  /** Answers as many of those who wait as there is room for, in their order. */
  #look(): void {
    this.#timer = undefined;
    this.#measure();
    if (this.#isOver(MAX_BLOCK_BYTES)) this.#cutOff();
    const waiting = Array.from(this.#waiting); // who has to wait again is added again
    for (const [wire, resume] of waiting) {
      if (this.#isOver(MAX_BLOCK_BYTES)) return this.#lookSoon();
      this.#waiting.delete(wire);
      if (!wire.destroyed) resume();
    }
  }

  /** Disconnects who has taken nothing for a while, the longest first, until half of the room is free. */
  #cutOff(): void {
    const now = performance.now();
    const unread = [...this.#wires.keys()]
      .map((wire) => ({ connection: stateOf(wire).connection, bytes: heldBytes(wire) }))
      .filter(
        ({ connection }) =>
          connection !== undefined && connection.writableLength > 0 && now - connection.takenAtMs > UNREAD_MS,
      )
      .toSorted((a, b) => (a.connection?.takenAtMs ?? 0) - (b.connection?.takenAtMs ?? 0));
    for (const { connection, bytes } of unread) {
      if (this.#measuredBytes <= this.#maxBytes / 2) return;
      this.#measuredBytes -= bytes;
      connection?.destroy();
    }
  }
}

interface Host {
  connections: number;
  /** When it was last measured, with what was granted since. */
  heldBytes: number;
}

/** All that is in memory for a peer: read or being read from the disk, in the wire, in the socket, and its requests. */
function heldBytes(wire: Wire): number {
  const { waiting, reservedBytes, connection } = stateOf(wire);
  const unsent = wire._readableState.buffered + (connection?.writableLength ?? 0);
  const reading = wire.peerRequests.reduce((sum, request) => sum + request.length, 0);
  return unsent + reading + reservedBytes + waiting.length * WAITING_REQUEST_BYTES;
}
