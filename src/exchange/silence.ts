/** Time without any byte, while something is requested, after which a connection is dead. */
const DEAD_MS = 5_000;
/**
 * The same time for a member that has sent before, while no peer sends: then the line may be out, and may come back.
 */
const LINE_OUT_MS = 15_000;

/** The times of a connection that show why nothing came over it, in milliseconds of `performance.now()`. */
export interface ConnectionTimes {
  /** When bytes last arrived. */
  readonly heardAtMs: number;
  /** Until when our own limit stops reading. */
  readonly heldUntilMs: number;
}

/** The line of this machine, over which all peers are reached. */
export interface LineTimes {
  readonly backAtMs: number;
  isSilent(): boolean;
}

/** Tells how long a member that was asked has been silent. Time in which we, or the line, are the reason is not counted. */
export class Silence {
  readonly #connection: ConnectionTimes;
  readonly #line: LineTimes;
  #askedAtMs = 0;
  #payloadAtMs = 0;

  constructor(connection: ConnectionTimes, line: LineTimes) {
    this.#connection = connection;
    this.#line = line;
  }

  /** Notes the first request after none. */
  onAsked(nowMs: number): void {
    this.#askedAtMs = nowMs;
  }

  onPayload(nowMs: number): void {
    this.#payloadAtMs = nowMs;
  }

  /** Returns the milliseconds in which a member that is asked could have sent payload and did not. */
  payloadMs(nowMs: number): number {
    return Math.max(0, nowMs - Math.max(this.#payloadAtMs, this.#since));
  }

  /**
   * Returns true if a member that is asked has been silent for too long.
   *
   * @param wokeAtMs when this process last ran again after a delay
   * @param hasSent true if the member has sent payload before
   */
  isDead(nowMs: number, wokeAtMs: number, hasSent: boolean): boolean {
    const quietMs = nowMs - Math.max(this.#connection.heardAtMs, this.#since, wokeAtMs);
    return quietMs > (hasSent && this.#line.isSilent() ? LINE_OUT_MS : DEAD_MS);
  }

  /** Time since which only the member can be the reason for its silence. */
  get #since(): number {
    return Math.max(this.#askedAtMs, this.#connection.heldUntilMs, this.#line.backAtMs);
  }
}
