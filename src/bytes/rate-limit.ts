import { setTimeout as sleep } from 'node:timers/promises';
import { RateMeter } from './rate-meter.ts';
import { rateAt, type RateSchedule } from './rate-schedule.ts';

/** Unused time that may be made up for: more would let short downloads pass as if there were no limit. */
const BURST_MS = 200;

/** The limit is used up where so much of it was taken over this time: then sources are as slow as we make them. */
const USED_UP = 0.75;
const USE_MS = 3_000;

/** A limit is in use for so long after the last byte. */
const IN_USE_MS = 2_000;

/** How often a schedule is looked at: a limit changes within so long of the time that was said. */
const LOOK_AT_SCHEDULE_MS = 1_000;

/** What tells a limit the time; for tests. */
export interface RateClock {
  /** Milliseconds that only go forward. */
  readonly nowMs: () => number;
  /** This machine's date and time. */
  readonly date: () => Date;
}

const SYSTEM_CLOCK: RateClock = { nowMs: () => performance.now(), date: () => new Date() };

/** The limit of one direction, which may differ from host to host. */
export interface DirectionLimit {
  /** True while bytes are held back by a limit of our own, so that no source can be judged by what it sends. */
  readonly isUsedUp: boolean;
  /** The limit of what passes between this machine and a host: an address, or the name in a URL. */
  towards(host: string): RateLimit;
}

export interface RateLimitOptions {
  /** A limit that counts for the same bytes, too. */
  readonly within?: RateLimit | undefined;
  readonly clock?: RateClock | undefined;
}

/**
 * A token bucket for bytes, shared by everything that goes in one direction. A fifth of a second's worth may come in a
 * burst. Without a rate it never waits; with a schedule its rate changes when the time has come.
 */
export class RateLimit implements DirectionLimit {
  readonly #schedule: RateSchedule;
  readonly #within: RateLimit | undefined;
  readonly #clock: RateClock;
  readonly #meter = new RateMeter(USE_MS);
  #rate: number | undefined;
  /** Processes that use the limit, this one included. */
  #sharers = 1;
  #usedAtMs = -Infinity;
  #lookAgainAtMs = -Infinity;
  #freeAtMs = -Infinity;
  /** Grows when the rate changes: who waits for the old one waits no longer. */
  #changes = 0;

  /** @param rate bytes a second, or which rate holds when; undefined: no limit */
  constructor(rate?: number | RateSchedule, { within, clock = SYSTEM_CLOCK }: RateLimitOptions = {}) {
    this.#schedule = typeof rate === 'number' ? [{ rateBytesPerSec: rate }] : (rate ?? []);
    this.#within = within;
    this.#clock = clock;
  }

  /** The rate that holds now; undefined: no limit. */
  get rateBytesPerSec(): number | undefined {
    this.#look(this.#clock.nowMs());
    return this.#rate;
  }

  /** True if bytes have been counted in the last two seconds. */
  get isInUse(): boolean {
    return this.#clock.nowMs() - this.#usedAtMs < IN_USE_MS;
  }

  /** Takes an equal part of the rate from now on, since other processes use the limit, too. */
  setSharers(sharers: number): void {
    if (sharers === this.#sharers) return;
    this.#sharers = sharers;
    if (this.#lookAgainAtMs !== -Infinity) this.#lookAgainAtMs = 0;
  }

  get isUsedUp(): boolean {
    if (this.#within?.isUsedUp === true) return true;
    const nowMs = this.#clock.nowMs();
    this.#look(nowMs);
    if (this.#rate === undefined) return false;
    return this.#freeAtMs > nowMs || this.#meter.rate(nowMs) > this.#rate * USED_UP;
  }

  /** The same towards everybody. */
  towards(): this {
    return this;
  }

  /** Counts bytes that have come, and says for how many milliseconds to read no more. */
  take(bytes: number, nowMs = this.#clock.nowMs()): number {
    const waitMs = this.#within?.take(bytes, nowMs) ?? 0;
    this.#usedAtMs = nowMs;
    this.#look(nowMs);
    if (this.#rate === undefined) return waitMs;
    this.#meter.add(bytes, nowMs);
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs - BURST_MS) + (bytes / this.#rate) * 1000;
    return Math.max(waitMs, this.#freeAtMs - nowMs);
  }

  /** Counts bytes and waits as long as the rate demands, or until there is another rate. */
  async pace(bytes: number, signal?: AbortSignal): Promise<void> {
    const fromMs = this.#clock.nowMs();
    const untilMs = fromMs + this.take(bytes, fromMs);
    const changes = this.#changesSoFar(fromMs);
    for (let nowMs = fromMs; nowMs < untilMs; nowMs = this.#clock.nowMs()) {
      if (this.#changesSoFar(nowMs) !== changes) return;
      await sleep(Math.min(untilMs - nowMs, LOOK_AT_SCHEDULE_MS), undefined, signal === undefined ? {} : { signal });
    }
  }

  #changesSoFar(nowMs: number): number {
    this.#look(nowMs);
    const within = this.#within;
    return this.#changes + (within === undefined ? 0 : within.#changesSoFar(nowMs));
  }

  #look(nowMs: number): void {
    if (nowMs < this.#lookAgainAtMs) return;
    const isFirst = this.#lookAgainAtMs === -Infinity;
    const isByTime = this.#schedule.some(({ when }) => when !== undefined);
    this.#lookAgainAtMs = isByTime ? nowMs + LOOK_AT_SCHEDULE_MS : Infinity;
    const whole = rateAt(this.#schedule, this.#clock.date());
    const rate = whole === undefined ? undefined : whole / this.#sharers;
    if (rate === this.#rate) return;
    this.#rate = rate;
    if (isFirst) return;
    this.#changes++;
    this.#freeAtMs = -Infinity;
  }
}
