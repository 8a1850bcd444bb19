import type { Socket } from 'node:net';
import { giveBack } from '../bytes/lent-buffers.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import type { Backpressure } from './backpressure.ts';
import type { StreamCipher } from './encryption.ts';
import type { HostTime } from './processor-budget.ts';

export interface PacedSocketOptions {
  readonly cipher: StreamCipher | undefined;
  /** Limit on the rate of reading. */
  readonly limit: RateLimit | undefined;
  /** Receivers of the bytes. Nothing is read while one of them is full. */
  readonly readers: readonly Backpressure[];
  /** Processor time of the peer's host. Nothing is handled while it is over. */
  readonly time: HostTime;
  /** Called with received bytes, decrypted. Returns the share of the time for them that counts, from 0 to 1. */
  readonly onBytes: (bytes: Buffer) => number;
  /** Called when the peer has taken bytes. */
  readonly onTaken: () => void;
}

/** Limit on bytes that wait in a socket. Writing stops until fewer wait. */
const WRITE_AHEAD_BYTES = 64 * 1024;

/** A socket that is read only as fast as all limits allow, and written in one system call per tick. */
export class PacedSocket {
  readonly #socket: Socket;
  readonly #options: PacedSocketOptions;
  readonly #stops: readonly (() => void)[];
  #heldUntilMs = 0;
  #takenAtMs = performance.now();
  #isCorked = false;

  constructor(socket: Socket, options: PacedSocketOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#stops = options.readers.map((reader) => reader.onFree(() => this.#readOn()));
    socket.setNoDelay(true); // Nagle's algorithm adds 44 ms to each exchange
    socket.on('data', (bytes: Buffer) => this.#onData(bytes));
  }

  /** Time until which the limit stops reading, in milliseconds of `performance.now()`. */
  get heldUntilMs(): number {
    return this.#heldUntilMs;
  }

  /** Bytes that the peer has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /**
   * Time at which the peer last took bytes, or at which the waiting ones were sent, in milliseconds of
   * `performance.now()`.
   */
  get takenAtMs(): number {
    return this.#takenAtMs;
  }

  /** Calls back once there is room for more, possibly at once. */
  whenDrained(done: () => void): void {
    if (this.#socket.writableNeedDrain && this.#socket.writableLength >= WRITE_AHEAD_BYTES)
      this.#socket.once('drain', done);
    else done();
  }

  /**
   * Writes bytes. Those of one tick leave in one system call: a request has only 17 bytes, the head of a block 13.
   * Gives lent buffers back.
   */
  write(bytes: Uint8Array): void {
    const socket = this.#socket;
    if (socket.writableLength === 0) this.#takenAtMs = performance.now();
    if (!this.#isCorked) {
      this.#isCorked = true;
      socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        socket.uncork();
      });
    }
    socket.write(this.#options.cipher?.encrypt(bytes) ?? bytes, () => {
      giveBack(bytes);
      this.#takenAtMs = performance.now();
      this.#options.onTaken();
    });
  }

  end(done: () => void): void {
    this.#socket.end(done);
  }

  destroy(): void {
    for (const stop of this.#stops) stop();
    this.#socket.destroy();
  }

  #mayRead(): boolean {
    return performance.now() >= this.#heldUntilMs && !this.#options.readers.some(({ isFull }) => isFull);
  }

  /** Reads again, unless something stops it. */
  #readOn(): void {
    if (this.#mayRead()) this.#socket.resume();
  }

  #onData(bytes: Buffer): void {
    const { time, limit, cipher, onBytes } = this.#options;
    if (time.isOver) {
      this.#socket.pause();
      this.#socket.unshift(bytes);
      time.whenFree(this.#onTime);
      return;
    }
    const waitMs = limit?.take(bytes.length) ?? 0;
    if (waitMs > 0) this.#hold(waitMs);
    time.spend(() => onBytes(cipher?.decrypt(bytes) ?? bytes), { andAfter: true });
    if (!this.#mayRead()) this.#socket.pause();
  }

  /** Handles waiting bytes at once: if this uses up the time, it is no other connection's turn. */
  readonly #onTime = (): void => {
    if (this.#socket.destroyed || !this.#mayRead()) return;
    this.#socket.read();
    this.#readOn();
  };

  #hold(waitMs: number): void {
    this.#heldUntilMs = performance.now() + waitMs;
    const look = (): void => {
      const leftMs = this.#heldUntilMs - performance.now();
      // Timers may fire early by the time that this turn of the event loop has taken.
      if (leftMs > 0) setTimeout(look, leftMs);
      else this.#readOn();
    };
    setTimeout(look, waitMs);
  }
}
