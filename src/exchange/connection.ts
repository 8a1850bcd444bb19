import { connect, type Socket } from 'node:net';
import type { RateLimit } from '../bytes/rate-limit.ts';
import type { Endpoint } from '../discovery/endpoint.ts';
import type { PeerRecord } from '../discovery/peer-table.ts';
import { MAX_UNREAD_ANSWERS_BYTES } from '../wire/bounds.ts';
import type { Agreed, StreamCipher } from '../wire/encryption.ts';
import { FrameReader, type FrameHandlers } from './frame-reader.ts';

/** A connection that does not answer any more is noticed by the system after some minutes. */
const KEEP_ALIVE_MS = 30_000;
const KEEP_ALIVE = Buffer.alloc(4);

/** What happens on a connection. */
export interface ConnectionEvents extends FrameHandlers {
  /** It is made; only of one that we open. */
  readonly connected: () => void;
  /** The socket has taken some of what was sent. */
  readonly room: () => void;
  /** It has ended, whoever ended it. Called once. */
  readonly closed: () => void;
}

/** One TCP connection to a peer, cut into messages. A peer that breaks the protocol is disconnected. */
export class Connection {
  readonly remote: Endpoint;
  /** Bytes that have come. */
  receivedBytes = 0;
  /** When something came last, and when the peer last took something or was first sent what it has not taken. */
  heardAtMs = performance.now();
  takenAtMs = performance.now();
  /** Until when our own limit keeps us from reading. */
  heldUntilMs = 0;
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #reader: FrameReader;
  readonly #cipher: StreamCipher | undefined;
  readonly #limit: RateLimit | undefined;
  #isCorked = false;
  #isClosed = false;

  private constructor(
    socket: Socket,
    events: ConnectionEvents,
    options: { remote: Endpoint; cipher?: StreamCipher | undefined; limit?: RateLimit | undefined },
  ) {
    this.#socket = socket;
    this.#events = events;
    this.#reader = new FrameReader(events);
    this.remote = options.remote;
    this.#cipher = options.cipher;
    this.#limit = options.limit;
    socket.setNoDelay(true); // Nagle's algorithm adds 44 ms to each exchange
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('error', () => this.close()); // a peer that is gone is no news
    socket.once('end', () => this.close());
    socket.once('close', () => this.close());
  }

  /**
   * Connects to a peer.
   *
   * @param options.buffer what comes is read into it, and is done with when the next read begins: all connections share one
   */
  static dial(
    peer: PeerRecord,
    events: ConnectionEvents,
    options: { readonly buffer: Uint8Array; readonly limit?: RateLimit | undefined },
  ): Connection {
    const { host, port } = peer.endpoint;
    const { buffer, limit } = options;
    const socket = connect({
      host,
      port,
      ...(peer.blockList === undefined ? {} : { blockList: peer.blockList }),
      onread: {
        buffer,
        callback: (bytes) => {
          connection.#take(buffer.subarray(0, bytes));
          return true;
        },
      },
    });
    const connection = new Connection(socket, events, { remote: peer.endpoint, limit });
    socket.once('connect', events.connected);
    return connection;
  }

  /** Takes over a connection that a peer has made, paused behind what was read of it. Reads on after {@link resume}. */
  static adopt(
    socket: Socket,
    events: ConnectionEvents,
    options: { readonly remote: Endpoint; readonly opening: Agreed; readonly limit?: RateLimit | undefined },
  ): Connection {
    const { head, cipher } = options.opening;
    const connection = new Connection(socket, events, { ...options, cipher });
    setImmediate(() => {
      if (socket.destroyed) connection.close();
      connection.#take(head);
      if (connection.#isClosed) return;
      socket.on('data', (bytes: Buffer) => connection.#take(cipher === undefined ? bytes : cipher.decrypt(bytes)));
      socket.resume();
    });
    return connection;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Bytes that wait for the peer to take them. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Sends bytes. Those of one tick leave in one system call. */
  send(bytes: Uint8Array, onSent?: () => void): void {
    if (this.#isClosed) {
      onSent?.();
      return;
    }
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#socket.uncork();
      });
    }
    if (this.#socket.writableLength === 0) this.takenAtMs = performance.now();
    this.#socket.write(this.#cipher === undefined ? bytes : this.#cipher.encrypt(bytes), () => {
      this.takenAtMs = performance.now();
      onSent?.();
      if (!this.#isClosed) this.#events.room();
    });
    // What is paid for by others is bounded where it is sent; small answers of which nobody reads one are bounded here.
    if (this.#socket.writableLength > MAX_UNREAD_ANSWERS_BYTES) this.close();
  }

  /** Tells the peer that we are there. */
  keepAlive(): void {
    this.send(KEEP_ALIVE);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    this.#events.closed();
  }

  #take(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.receivedBytes += bytes.length;
    this.heardAtMs = performance.now();
    let isSound = false;
    try {
      isSound = this.#reader.accept(bytes);
    } catch {
      // what nobody has foreseen costs a stranger's connection, never the process
    }
    if (!isSound) {
      this.close();
      return;
    }
    const waitMs = this.#limit?.take(bytes.length) ?? 0;
    if (waitMs <= 0) return;
    this.#socket.pause();
    this.heldUntilMs = performance.now() + waitMs;
    setTimeout(() => this.#socket.resume(), waitMs);
  }
}
