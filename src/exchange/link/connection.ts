import { connect, type Socket } from 'node:net';
import type { RateLimit } from '../../bytes/rate-limit.ts';
import type { Endpoint } from '../../discovery/endpoint.ts';
import type { PeerRecord } from '../../discovery/peer-table.ts';
import { MAX_UNREAD_ANSWERS_BYTES, WRITE_BYTES } from '../../wire/bounds.ts';
import type { Agreed, StreamCipher } from '../../wire/encryption.ts';
import type { HostTime } from '../../wire/processor-budget.ts';
import { FrameReader, type FrameHandlers } from '../messages/frame-reader.ts';

/**
 * Interval of the system's checks whether the other side is still there. It notices a dead connection after some
 * minutes.
 */
const KEEP_ALIVE_MS = 30_000;
const KEEP_ALIVE = Buffer.alloc(4);

export interface ConnectionEvents extends FrameHandlers {
  /** It is made. Only for a connection that we open. */
  readonly connected: () => void;
  /** Returns true while an answer is awaited that our limit on the rate must not delay. */
  readonly isUrgent: () => boolean;
  /** The socket has taken some of the sent bytes. */
  readonly room: () => void;
  /** It has ended, on either side. Called once. */
  readonly closed: () => void;
}

/** One TCP connection to a peer, cut into messages. Disconnects a peer that breaks the protocol. */
export class Connection {
  readonly remote: Endpoint;
  /** When bytes last arrived, and when the peer last took bytes or the waiting ones were sent. */
  heardAtMs = performance.now();
  takenAtMs = performance.now();
  /** Time until which our own limit stops reading. */
  heldUntilMs = 0;
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  readonly #reader: FrameReader;
  readonly #cipher: StreamCipher | undefined;
  readonly #limit: RateLimit | undefined;
  readonly #time: HostTime;
  #isCorked = false;
  #unsentWrites = 0;
  #isClosed = false;
  #isReading = false;
  /** Set while our own limit stops reading. */
  #limited: NodeJS.Timeout | undefined;
  #isPaused = false;

  private constructor(
    socket: Socket,
    events: ConnectionEvents,
    options: { remote: Endpoint; cipher?: StreamCipher | undefined; limit?: RateLimit | undefined; time: HostTime },
  ) {
    this.#socket = socket;
    this.#events = events;
    this.#reader = new FrameReader({
      handshake: events.handshake,
      extended: events.extended,
      message: events.message,
      data: events.data,
      isFull: () => options.time.isOver || events.isFull(),
    });
    this.remote = options.remote;
    this.#cipher = options.cipher;
    this.#limit = options.limit;
    this.#time = options.time;
    socket.setNoDelay(true); // Nagle's algorithm adds 44 ms to each exchange
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('error', () => this.close()); // an ended connection is not worth reporting
    socket.once('end', () => this.close());
    socket.once('close', () => this.close());
  }

  /**
   * Connects to a peer.
   *
   * @param options.buffer receives the bytes of each read, and is reused by the next one: all connections share it
   * @param options.time the processor time of the peer's host
   */
  static dial(
    peer: PeerRecord,
    events: ConnectionEvents,
    options: { readonly buffer: Uint8Array; readonly limit?: RateLimit | undefined; readonly time: HostTime },
  ): Connection {
    const { host, port } = peer.endpoint;
    const { buffer, limit, time } = options;
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
    const connection = new Connection(socket, events, { remote: peer.endpoint, limit, time });
    socket.once('connect', events.connected);
    return connection;
  }

  /**
   * Takes over a connection that a peer has made. It is paused after the bytes that were read. Reads on after {@link
   * resume}.
   */
  static adopt(
    socket: Socket,
    events: ConnectionEvents,
    options: {
      readonly remote: Endpoint;
      readonly opening: Agreed;
      readonly limit?: RateLimit | undefined;
      readonly time: HostTime;
    },
  ): Connection {
    const { remote, limit, time } = options;
    const { head, cipher } = options.opening;
    const connection = new Connection(socket, events, { remote, limit, cipher, time });
    setImmediate(() => connection.#begin(head));
    return connection;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Bytes that the peer has not taken yet, including the memory of the objects around them. */
  get unsentBytes(): number {
    return this.#isClosed ? 0 : this.#socket.writableLength + this.#unsentWrites * WRITE_BYTES;
  }

  /** Received bytes that were not handled yet. */
  get unreadBytes(): number {
    return this.#isClosed ? 0 : this.#socket.readableLength + this.#reader.heldBytes;
  }

  /** Reads on if there is room again. */
  readOn(): void {
    if (!this.#isReading && this.#reader.isHolding && !this.#time.isOver) this.#read(() => this.#reader.goOn());
  }

  /** Milliseconds for which our own limit will read nothing, for all that was read so far over any connection. */
  get debtMs(): number {
    return this.#limit?.debtMs ?? 0;
  }

  /** Reads on although our own limit stops it: an urgent answer is awaited behind other bytes. */
  hurry(): void {
    if (this.#limited === undefined) return;
    this.heldUntilMs = performance.now();
    this.#endLimited();
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
    this.#unsentWrites++;
    this.#socket.write(this.#cipher === undefined ? bytes : this.#cipher.encrypt(bytes), () => {
      this.#unsentWrites--;
      this.takenAtMs = performance.now();
      onSent?.();
      if (!this.#isClosed) this.#events.room();
    });
    // Large answers are bounded where they are sent. Small answers that a peer does not read are bounded here.
    if (this.unsentBytes > MAX_UNREAD_ANSWERS_BYTES) this.close();
  }

  /** Sends a keep-alive. */
  keepAlive(): void {
    this.send(KEEP_ALIVE);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#limited);
    this.#socket.destroy();
    this.#events.closed();
  }

  /** True while the socket must not be read. */
  get #isHeld(): boolean {
    return this.#reader.isHolding || this.#limited !== undefined || this.#time.isOver;
  }

  /** Handles the bytes that were read of an adopted socket, then reads on. */
  #begin(head: Buffer): void {
    if (this.#socket.destroyed) this.close();
    this.#take(head);
    if (this.#isClosed) return;
    this.#listen();
    if (!this.#isPaused) this.#socket.resume();
  }

  #listen(): void {
    this.#socket.on('data', (bytes: Buffer) =>
      this.#take(this.#cipher === undefined ? bytes : this.#cipher.decrypt(bytes)),
    );
  }

  #take(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.heardAtMs = performance.now();
    if (this.#limit !== undefined) this.#pace(this.#limit, bytes.length);
    this.#read(() => this.#reader.accept(bytes));
  }

  /** Counts read bytes. Stops reading for as long as the limit demands. */
  #pace(limit: RateLimit, bytes: number): void {
    if (this.#events.isUrgent()) {
      limit.charge(bytes);
      return;
    }
    const waitMs = limit.take(bytes);
    if (waitMs <= 0) return;
    clearTimeout(this.#limited);
    this.heldUntilMs = performance.now() + waitMs;
    this.#limited = setTimeout(() => this.#endLimited(), waitMs);
  }

  #endLimited(): void {
    clearTimeout(this.#limited);
    this.#limited = undefined;
    this.#resume();
  }

  /** Lets the reader take bytes. Stops reading while it cannot take all, or while the host is over its time. */
  #read(take: () => boolean): void {
    let isSound = false;
    this.#isReading = true;
    this.#time.spend(() => {
      const [takenBytes, payloadBytes] = [this.#reader.takenBytes, this.#reader.payloadBytes];
      try {
        isSound = take();
      } catch {
        // an unforeseen error ends a stranger's connection, never the process
      }
      // Payload that we asked for is welcome, however much it is.
      return 1 - (this.#reader.payloadBytes - payloadBytes) / (this.#reader.takenBytes - takenBytes || 1);
    });
    this.#isReading = false;
    if (!isSound) {
      this.close();
    } else if (this.#isHeld) {
      this.#isPaused = true;
      this.#socket.pause();
      if (this.#time.isOver) this.#time.whenFree(this.#onFree);
    } else {
      this.#resume();
    }
  }

  /** Reads on when the host has time again. */
  readonly #onFree = (): void => {
    if (this.#isClosed) return;
    this.readOn();
    this.#resume();
  };

  #resume(): void {
    if (this.#isClosed || !this.#isPaused || this.#isHeld) return;
    this.#isPaused = false;
    this.#socket.resume();
  }
}
