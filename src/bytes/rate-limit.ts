import { RateMeter } from './rate-meter.ts';
import { setTimeout as sleep } from 'node:timers/promises';

/** Unused time that may be made up for: more would let short downloads pass as if there were no limit. */
const BURST_MS = 200;

/** The limit is used up where so much of it was taken over this time: then sources are as slow as we make them. */
const USED_UP = 0.75;
const USE_MS = 3_000;

/**
 * A token bucket for bytes, shared by everything that downloads. A fifth of a second's worth may come in a burst.
 * Without a rate it never waits.
 */
export class RateLimit {
  readonly rateBytesPerSec: number | undefined;
  readonly #meter = new RateMeter(USE_MS);
  #freeAtMs = 0;

  constructor(rateBytesPerSec?: number) {
    this.rateBytesPerSec = rateBytesPerSec;
  }

  /** True while what comes is held back by this limit, so that no source can be judged by what it sends. */
  get isUsedUp(): boolean {
    if (this.rateBytesPerSec === undefined) return false;
    const nowMs = performance.now();
    return this.#freeAtMs > nowMs || this.#meter.rate(nowMs) > this.rateBytesPerSec * USED_UP;
  }

  /** Counts bytes that have come, and says for how many milliseconds to read no more. */
  take(bytes: number, nowMs = performance.now()): number {
    if (this.rateBytesPerSec === undefined) return 0;
    this.#meter.add(bytes, nowMs);
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs - BURST_MS) + (bytes / this.rateBytesPerSec) * 1000;
    return Math.max(0, this.#freeAtMs - nowMs);
  }

  /** Counts bytes and waits as long as the rate demands. */
  async pace(bytes: number, signal?: AbortSignal): Promise<void> {
    const waitMs = this.take(bytes);
    if (waitMs > 0) await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
  }
}
