import { setTimeout as sleep } from 'node:timers/promises';
import { RateMeter } from './rate-meter.ts';
import { rateAt, type RateSchedule } from './rate-schedule.ts';

/** Time whose unused rate may be used later. With more, short downloads would pass as if there were no limit. */
const BURST_MS = 200;

/** The limit counts as used up if this share of it was taken during `USE_MS`: then our limit makes sources slow. */
const USED_UP = 0.75;
const USE_MS = 3_000;

/** Time after the last byte during which a limit counts as in use. */
const IN_USE_MS = 2_000;

/** Time for which later bytes wait, at most, for those that were read at once. */
const MAX_DEBT_MS = 20_000;

/** Interval of looks at the schedule: the delay with which a limit changes. */
const LOOK_AT_SCHEDULE_MS = 1_000;

/** Interval of looks at a rate that {@link RateLimit.moveTo} replaces. */
const LOOK_AT_MOVING_MS = 100;

/** The time for a limit. Replaced in tests. */
export interface RateClock {
  /** Milliseconds that never go backwards. */
  readonly nowMs: () => number;
  /** This machine's local date and time. */
  readonly date: () => Date;
}

const SYSTEM_CLOCK: RateClock = { nowMs: () => performance.now(), date: () => new Date() };

/** The limit of one direction, which may differ from host to host. */
export interface DirectionLimit {
  /** True while our own limit holds bytes back: then no source can be judged by its speed. */
  readonly isUsedUp: boolean;
  /** True if it yields to other traffic on the internet line. */
  readonly yields: boolean;
  /** Returns the limit for a host: an address, or the name in a URL. */
  towards(host: string): RateLimit;
}

export interface RateLimitOptions {
  /** Another limit that counts the same bytes. */
  readonly within?: RateLimit | undefined;
  readonly clock?: RateClock | undefined;
  /** Milliseconds whose unused rate may be used later. Default: 200. */
  readonly burstMs?: number | undefined;
}

/**
 * A token bucket for bytes, shared by all traffic in one direction. Bursts of up to a fifth of a second are allowed.
 * Without a rate it never waits. With a schedule its rate changes at the given times.
 */
export class RateLimit implements DirectionLimit {
  readonly yields: boolean = false;
  #schedule: RateSchedule;
  readonly #within: RateLimit | undefined;
  readonly #clock: RateClock;
  readonly #burstMs: number;
  readonly #meter = new RateMeter(USE_MS);
  #rate: number | undefined;
  /** Number of processes that share the limit, this one included. */
  #sharers = 1;
  #usedAtMs = -Infinity;
  #lookAgainAtMs = -Infinity;
  #freeAtMs = -Infinity;
  /** Increases when the rate changes, so that those who wait for the old rate stop waiting. */
  #changes = 0;
  /** Bytes counted so far. */
  #counted = 0;
  #isMoving = false;

  /** @param rate bytes a second, or a schedule. Undefined: no limit */
  constructor(
    rate?: number | RateSchedule,
    { within, clock = SYSTEM_CLOCK, burstMs = BURST_MS }: RateLimitOptions = {},
  ) {
    this.#schedule = typeof rate === 'number' ? [{ rateBytesPerSec: rate }] : (rate ?? []);
    this.#within = within;
    this.#clock = clock;
    this.#burstMs = burstMs;
  }

  /** The current rate. Undefined: no limit. */
  get rateBytesPerSec(): number | undefined {
    this.#look(this.#clock.nowMs());
    return this.#rate;
  }

  /** True if bytes have been counted in the last two seconds. */
  get isInUse(): boolean {
    return this.#clock.nowMs() - this.#usedAtMs < IN_USE_MS;
  }

  /** Replaces the rates from now on. */
  setSchedule(schedule: RateSchedule): void {
    this.#schedule = schedule;
    if (this.#lookAgainAtMs !== -Infinity) this.#lookAgainAtMs = 0;
  }

  /**
   * Replaces the rate of a limit without a schedule, possibly several times a second. Unlike with {@link setSchedule},
   * the bytes so far keep their place: those that wait do so for as long as the new rate demands.
   */
  moveTo(rateBytesPerSec: number): void {
    const nowMs = this.#clock.nowMs();
    this.#look(nowMs);
    const aheadMs = this.#freeAtMs - nowMs;
    if (this.#rate !== undefined && aheadMs > 0) this.#freeAtMs = nowMs + (aheadMs * this.#rate) / rateBytesPerSec;
    this.#rate = rateBytesPerSec;
    this.#isMoving = true;
  }

  /** Divides the rate equally among this number of processes from now on. */
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

  /** Returns this limit: it is the same for every host. */
  towards(): this {
    return this;
  }

  /** Counts received bytes. Returns the milliseconds to wait before reading more. */
  take(bytes: number, nowMs = this.#clock.nowMs()): number {
    const waitMs = this.#within?.take(bytes, nowMs) ?? 0;
    this.#count(bytes, nowMs);
    return Math.max(waitMs, this.#freeAtMs - nowMs);
  }

  /** Counts received bytes that could not wait. Later ones wait for them, for a limited time. */
  charge(bytes: number, nowMs = this.#clock.nowMs()): void {
    this.#within?.charge(bytes, nowMs);
    const freeAtMs = this.#freeAtMs;
    this.#count(bytes, nowMs);
    this.#freeAtMs = Math.max(freeAtMs, Math.min(this.#freeAtMs, nowMs + MAX_DEBT_MS));
  }

  /** Milliseconds until the bytes so far have had their time. */
  get debtMs(): number {
    return Math.max(0, this.#freeAtMs - this.#clock.nowMs(), this.#within?.debtMs ?? 0);
  }

  /** Counts bytes. Returns a promise if the rate demands a wait, or less if the rate changes. */
  pace(bytes: number, signal?: AbortSignal): void | Promise<void> {
    const fromMs = this.#clock.nowMs();
    const waitMs = this.take(bytes, fromMs);
    return waitMs > 0 ? this.#wait(fromMs, signal) : undefined;
  }

  #count(bytes: number, nowMs: number): void {
    this.#usedAtMs = nowMs;
    this.#counted += bytes;
    this.#look(nowMs);
    if (this.#rate === undefined) return;
    this.#meter.add(bytes, nowMs);
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs - this.#burstMs) + (bytes / this.#rate) * 1000;
  }

  async #wait(fromMs: number, signal: AbortSignal | undefined): Promise<void> {
    const places = this.#places();
    const changes = this.#changesSoFar(fromMs);
    const lookMs = places.some(({ limit }) => limit.#isMoving) ? LOOK_AT_MOVING_MS : LOOK_AT_SCHEDULE_MS;
    for (let nowMs = fromMs; ; nowMs = this.#clock.nowMs()) {
      const leftMs = Math.max(...places.map(({ limit, place }) => limit.#leftMs(place, nowMs)));
      if (leftMs <= 0 || this.#changesSoFar(nowMs) !== changes) return;
      await sleep(Math.min(leftMs, lookMs), undefined, signal === undefined ? {} : { signal });
    }
  }

  /** Returns the place of the last counted byte, in this limit and in those that it is within. */
  #places(): { readonly limit: RateLimit; readonly place: number }[] {
    const within = this.#within;
    return [{ limit: this, place: this.#counted }, ...(within === undefined ? [] : within.#places())];
  }

  /** Returns the milliseconds until the bytes up to a place have had their time. */
  #leftMs(place: number, nowMs: number): number {
    if (this.#rate === undefined) return 0;
    return this.#freeAtMs - nowMs - ((this.#counted - place) / this.#rate) * 1000;
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
