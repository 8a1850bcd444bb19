import { OwnClock } from '../../bytes/own-clock.ts';

/** Bounds on the time without a byte after which a member that was asked is late. */
const LEAST_MS = 1_000;
const MOST_MS = 5_000;
/** A member that was silent for some time and then sent something may be silent for this many times as long again. */
const AGAIN = 2;
/** Time after which an earlier silence counts half. */
const HALF_LIFE_MS = 15_000;

/** The longest silence that a member has ended by sending something. Earlier ones count less and less. */
export class EndedSilence {
  /** Milliseconds, as of the last note. */
  longestMs = 0;
  #atMs = 0;

  note(silentMs: number, nowMs: number): void {
    this.longestMs = Math.max(silentMs, this.longestMs * 0.5 ** ((nowMs - this.#atMs) / HALF_LIFE_MS));
    this.#atMs = nowMs;
  }
}

/**
 * Decides how long a member may be silent before others take over its requests: a second, and longer if it, or half of all
 * members, were silent for long before and then went on. Their machines, or this one, have much to do. Time in which this
 * process did not run does not count. Shared by all connections.
 */
export class Patience {
  readonly #clock: OwnClock;
  #usualMs = 0;

  /** @param now milliseconds from any start. Default: `performance.now` */
  constructor(now?: () => number) {
    this.#clock = new OwnClock(now);
  }

  /** A clock that stands still while this process does not run, in milliseconds. It runs only while looks are made. */
  get ownMs(): number {
    return this.#clock.ownMs;
  }

  /**
   * Learns how long members usually take. Call it about every 250 ms while something is fetched.
   *
   * @param silences the {@link EndedSilence} of each member that has sent something, in milliseconds
   */
  look(silences: readonly number[]): void {
    this.#clock.look();
    this.#usualMs = silences.toSorted((a, b) => a - b)[Math.floor((silences.length - 1) / 2)] ?? 0;
  }

  /**
   * Returns the milliseconds without a byte after which a member is late, at most five seconds.
   *
   * @param silenceMs the longest silence that it has ended
   */
  msOf(silenceMs: number): number {
    return Math.min(MOST_MS, Math.max(LEAST_MS, AGAIN * Math.max(silenceMs, this.#usualMs)));
  }
}
