import type { Socket } from 'node:net';
import type { Line, PoolSending } from './pool-sending.ts';
import type { RequestsAhead } from './requests-ahead.ts';

/**
 * Time for the answer to a request that was sent ahead. Some servers drop the bytes that they read behind a request.
 */
const AHEAD_PATIENCE_MS = 1_500;

export interface ConnectionEvents {
  /** It has answered a request, and can take more. */
  readonly free: (connection: Connection) => void;
  /** It has ended, with requests that can be sent over another connection. */
  readonly ended: (connection: Connection, unanswered: readonly PoolSending[]) => void;
}

interface Sent {
  readonly sending: PoolSending;
  readonly sentAtMs: number;
  /** When it became the first one. */
  nextAtMs: number;
}

/** One connection to an origin, with the requests that were sent over it. Their answers come in the same order. */
export class Connection implements Line {
  readonly #socket: Socket;
  readonly #ahead: RequestsAhead;
  readonly #events: ConnectionEvents;
  /** The requests without a complete answer. The first one is answered now. */
  readonly #sendings: Sent[] = [];
  /** True if it has answered a request. The server may close it at the same moment as the next one is sent. */
  #hasServed = false;
  /** True once it is not to be used any more. */
  #isOver = false;
  #isResting = false;
  #failure: Error | undefined;
  #unsent = '';
  #aheadTimer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, ahead: RequestsAhead, events: ConnectionEvents) {
    this.#socket = socket;
    this.#ahead = ahead;
    this.#events = events;
    socket.on('error', (error) => (this.#failure = error));
    socket.on('data', (bytes: Buffer) => this.#onData(bytes));
    socket.on('close', () => this.#onClose());
    socket.on('timeout', () => this.close());
  }

  /** Number of requests without a complete answer. */
  get load(): number {
    return this.#sendings.length;
  }

  /** True while a NAR is awaited, or arrives. Only NARs are sent behind one. */
  get hasNar(): boolean {
    return this.#sendings[0]?.sending.isNar === true;
  }

  /** True if a request may be sent behind those that are not answered yet. */
  get takesMoreAhead(): boolean {
    const { length } = this.#sendings;
    if (this.#isOver || !this.#hasServed || length >= this.#ahead.atMost) return false;
    return this.#sendings[0]?.sending.isShort !== false;
  }

  /** Adds a request. It is sent by {@link flush}. */
  add(sending: PoolSending): void {
    try {
      this.#unsent += sending.format();
    } catch (error) {
      sending.fail(error as Error);
      return;
    }
    const nowMs = performance.now();
    this.#sendings.push({ sending, sentAtMs: nowMs, nextAtMs: nowMs });
    sending.attach(this);
    if (this.#sendings.length === 1) sending.expectAnswer();
  }

  /** Sends the added requests in one packet. */
  flush(): void {
    if (this.#unsent === '') return;
    this.#isResting = false;
    this.#socket.setTimeout(0);
    this.#socket.ref();
    this.#socket.resume();
    this.#socket.write(this.#unsent, 'latin1');
    this.#unsent = '';
  }

  /** Keeps it without a request for some time. It does not keep the process alive. */
  rest(forMs: number): void {
    if (this.#isResting) return;
    this.#isResting = true;
    this.#socket.resume();
    this.#socket.setTimeout(forMs);
    this.#socket.unref();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #onData(bytes: Buffer): void {
    for (let at = 0; at < bytes.length && !this.#isOver;) {
      const [first] = this.#sendings;
      if (first === undefined) {
        this.close(); // an answer without a request
        return;
      }
      const { sending } = first;
      if (!sending.isAnswered) this.#ahead.noteAnswer({ ...first, answeredAtMs: performance.now() });
      clearTimeout(this.#aheadTimer); // its answer has begun
      at += sending.onData(at === 0 ? bytes : bytes.subarray(at));
      if (!sending.hasEnded) return;
      if (!this.#isOver) this.#onAnswered(sending);
    }
    if (!this.#isOver) this.#events.free(this);
  }

  /** Goes on with the next request, which was sent ahead. */
  #onAnswered(sending: PoolSending): void {
    this.#sendings.shift();
    this.#hasServed = true;
    if (!sending.leavesConnection) {
      this.close();
      return;
    }
    const [next] = this.#sendings;
    if (next === undefined) return;
    next.nextAtMs = performance.now();
    next.sending.expectAnswer();
    this.#socket.resume(); // the last answer may have paused it
    this.#aheadTimer = setTimeout(() => {
      // If this process had no time, the answer may be in the socket: it is read before another timer fires.
      this.#aheadTimer = setTimeout(() => {
        this.#ahead.giveUp();
        this.close();
      });
    }, AHEAD_PATIENCE_MS);
  }

  /**
   * Lets requests without a byte of an answer be sent again if the connection has served another one (RFC 9112, 9.3.1):
   * the server may have closed it before it saw them.
   */
  #onClose(): void {
    clearTimeout(this.#aheadTimer);
    const unanswered = this.#sendings.splice(0).flatMap(({ sending }) => (sending.hasEnded ? [] : sending));
    if (!this.#isOver && unanswered.length > 1) this.#ahead.noteBreak();
    this.#isOver = true;
    const repeated = this.#hasServed ? unanswered.filter((sending) => sending.repeat()) : [];
    for (const sending of unanswered) if (!repeated.includes(sending)) sending.onClose(this.#failure);
    this.#events.ended(this, repeated);
  }
}
