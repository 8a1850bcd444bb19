import { hostKeyOf } from './address-range.ts';
import { MAX_DATA_BYTES, MAX_UNSENT_BYTES, UNREAD_MS } from './bounds.ts';
import { Turns } from './turns.ts';

/** Interval of checks of receivers that wait for memory. */
const LOOK_AGAIN_MS = 50;
/** Shortest interval between measurements of held bytes: one takes a millisecond for two thousand connections. */
const MEASURE_EVERY_MS = 5;

/** A receiver of bytes. It may take them or not. */
export interface Receiver {
  /** Address of its host. */
  readonly host: string;
  /** Bytes held in memory for it: read or being read from the disk, in the socket, and its requests. */
  readonly heldBytes: number;
  /** Time at which it last took bytes, or at which the waiting ones were sent. Undefined if nothing waits for it. */
  readonly unreadSinceMs: number | undefined;
  /** Disconnects it. */
  close(): void;
}

/**
 * Limits the memory for all receivers together that ask and do not read. Within the budget, everybody is answered at
 * once. Beyond it, only hosts that hold less than an equal share are answered, so the limit is twice the budget. The
 * others wait for their turn. Receivers that have read nothing for some time are disconnected.
 */
export class SendBudget {
  /** The order in which receivers are answered. */
  readonly turns = new Turns();
  readonly #maxBytes: number;
  readonly #receivers = new Map<Receiver, Host>();
  readonly #hosts = new Map<string, Host>();
  readonly #waiting = new Map<Receiver, Waiting>();
  /** Held bytes at the last measurement, and bytes granted since then. */
  #measuredBytes = 0;
  #grantedBytes = 0;
  #measuredAtMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(maxBytes = MAX_UNSENT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Counts a receiver from now until {@link remove}. */
  add(receiver: Receiver): void {
    const key = hostKeyOf(receiver.host);
    const host = this.#hosts.get(key) ?? { key, receivers: 0, heldBytes: 0 };
    host.receivers++;
    this.#hosts.set(key, host);
    this.#receivers.set(receiver, host);
  }

  remove(receiver: Receiver): void {
    const host = this.#receivers.get(receiver);
    if (host === undefined) return;
    if (--host.receivers === 0) this.#hosts.delete(host.key);
    this.#receivers.delete(receiver);
    this.#waiting.delete(receiver);
  }

  /** Counts bytes that need no room: short answers, waiting questions. */
  note(bytes: number): void {
    this.#grantedBytes += bytes;
    if (this.#isOver(0)) this.#lookSoon();
  }

  /**
   * Asks for room for an answer.
   *
   * @param resume called once there may be room, if there is none now
   */
  take(receiver: Receiver, bytes: number, resume: () => void): boolean {
    if (this.#isOver(bytes) && performance.now() - this.#measuredAtMs > MEASURE_EVERY_MS) this.#measure();
    const host = this.#receivers.get(receiver);
    if (host === undefined) return false; // it was removed
    if (this.#isOver(bytes) && host.heldBytes + bytes > this.#maxBytes / this.#hosts.size) {
      this.#waiting.set(receiver, { bytes, resume });
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

  /** Measures held bytes when they matter. Counting releases would fail if one code path forgot to count. */
  #measure(): void {
    this.#measuredAtMs = performance.now();
    this.#measuredBytes = 0;
    this.#grantedBytes = 0;
    for (const host of this.#hosts.values()) host.heldBytes = 0;
    for (const [{ heldBytes }, host] of this.#receivers) {
      host.heldBytes += heldBytes;
      this.#measuredBytes += heldBytes;
    }
  }

  #lookSoon(): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#look(), LOOK_AGAIN_MS).unref();
  }

  /** Answers as many waiting receivers as there is room for, in order. */
  #look(): void {
    this.#timer = undefined;
    this.#measure();
    // Room for less than a waiting receiver asks for does not help.
    let neededBytes = MAX_DATA_BYTES;
    for (const { bytes } of this.#waiting.values()) neededBytes = Math.max(neededBytes, bytes);
    if (this.#isOver(neededBytes)) this.#cutOff();
    const waiting = Array.from(this.#waiting); // receivers that must wait again are added again
    for (const [receiver, { resume }] of waiting) {
      if (this.#isOver(MAX_DATA_BYTES)) return this.#lookSoon();
      if (this.#waiting.delete(receiver)) resume();
    }
  }

  /** Disconnects receivers that have taken nothing for some time, the slowest first, until half of the room is free. */
  #cutOff(): void {
    const now = performance.now();
    const unread = [...this.#receivers.keys()]
      .map((receiver) => ({ receiver, bytes: receiver.heldBytes, sinceMs: receiver.unreadSinceMs ?? now }))
      .filter(({ sinceMs }) => now - sinceMs > UNREAD_MS)
      .toSorted((a, b) => a.sinceMs - b.sinceMs);
    for (const { receiver, bytes } of unread) {
      if (this.#measuredBytes <= this.#maxBytes / 2) return;
      this.#measuredBytes -= bytes;
      receiver.close();
    }
  }
}

interface Waiting {
  readonly bytes: number;
  readonly resume: () => void;
}

interface Host {
  readonly key: string;
  receivers: number;
  /** Held bytes at the last measurement, with bytes granted since. */
  heldBytes: number;
}
