/** Limit on small NARs beside the usual ones. Over a round trip of 100 ms, fewer leave a fast line idle. */
export const SMALL_SLOTS = 120;
/** No further one is requested while these have more bytes: they arrive in memory. */
const ENOUGH_BYTES = 32 * 1024 * 1024;
/** Further slots for each NAR that came quickly. */
const MORE = 2;
/** A NAR that takes longer shows a line or a server with enough to do, unless the server is far away. */
const QUICK_MS = 500;
/** Factor of the round trip within which a NAR is quick, too: a new connection with TLS takes three. */
const QUICK_ROUND_TRIPS = 4;
/** Longest round trip that counts: a slower answer is due to the line, not to the distance. */
const MAX_ROUND_TRIP_MS = 500;

/**
 * Decides how many small NARs are requested from upstreams beside the usual requests: none at first, two more with each
 * NAR that came quickly, and none again after one that did not. The NAR that came soonest tells the round trip. Pure,
 * without a clock.
 */
export class SmallSlots<T> {
  readonly #bytesOf: (nar: T) => number;
  #allowed = 0;
  #used = 0;
  #usedBytes = 0;
  #soonestMs = Infinity;

  /** @param bytesOf returns the size of a NAR */
  constructor(bytesOf: (nar: T) => number) {
    this.#bytesOf = bytesOf;
  }

  /** Returns a taker of one NAR after another. It takes none while all slots are used. `next` returns a NAR, or none. */
  taker(next: () => T | undefined): () => T | undefined {
    let isUsing = false;
    let bytes = 0;
    return () => {
      if (isUsing) this.#used--; // its last NAR is done
      this.#usedBytes -= bytes;
      const taken = this.#used < this.#allowed && this.#usedBytes < ENOUGH_BYTES ? next() : undefined;
      isUsing = taken !== undefined;
      bytes = taken === undefined ? 0 : this.#bytesOf(taken);
      if (isUsing) this.#used++;
      this.#usedBytes += bytes;
      return taken;
    };
  }

  /** Takes the time that a NAR took from its request on. @returns true if more NARs may be requested now */
  noteNar(tookMs: number): boolean {
    const before = this.#allowed;
    this.#soonestMs = Math.min(this.#soonestMs, tookMs);
    const quickMs = Math.max(QUICK_MS, QUICK_ROUND_TRIPS * Math.min(this.#soonestMs, MAX_ROUND_TRIP_MS));
    this.#allowed = tookMs < quickMs ? Math.min(SMALL_SLOTS, before + MORE) : 0;
    return this.#allowed > before;
  }
}
