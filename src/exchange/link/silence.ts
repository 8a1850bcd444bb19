import { EndedSilence, type Patience } from './patience.ts';

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
  readonly #patience: Pick<Patience, 'ownMs' | 'msOf'>;
  readonly #ended = new EndedSilence();
  #askedAtMs = 0;
  #payloadAtMs = 0;
  /** When it was last asked or sent payload, by the clock of the patience. */
  #lastOwnMs = 0;

  constructor(connection: ConnectionTimes, line: LineTimes, patience: Pick<Patience, 'ownMs' | 'msOf'>) {
    this.#connection = connection;
    this.#line = line;
    this.#patience = patience;
  }

  /** Notes the first request after none. */
  onAsked(nowMs: number): void {
    this.#askedAtMs = nowMs;
    this.#lastOwnMs = this.#patience.ownMs;
  }

  onPayload(nowMs: number): void {
    this.#ended.note(this.#payloadMs(nowMs), nowMs);
    this.#payloadAtMs = nowMs;
    this.#lastOwnMs = this.#patience.ownMs;
  }

  /** Returns the milliseconds in which the member could have sent payload and did not. */
  #payloadMs(nowMs: number): number {
    const wallMs = nowMs - Math.max(this.#payloadAtMs, this.#since);
    return Math.max(0, Math.min(wallMs, this.#patience.ownMs - this.#lastOwnMs));
  }

  /** Returns true if it is silent for longer than it, or most members, usually are. */
  isLate(nowMs: number): boolean {
    return this.#payloadMs(nowMs) > this.#patience.msOf(this.#ended.longestMs);
  }

  /** The longest silence that it has ended; undefined if it has sent nothing yet. */
  get endedMs(): number | undefined {
    return this.#payloadAtMs === 0 ? undefined : this.#ended.longestMs;
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
