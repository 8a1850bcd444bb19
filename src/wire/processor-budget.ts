import { hostKeyOf } from './address-range.ts';

/** Limits on the processor time of one host, in milliseconds: per second on average, and at once after a quiet time. */
export interface ProcessorRate {
  readonly perSecondMs: number;
  readonly burstMs: number;
}

/** The clocks of a budget, in milliseconds. Replaced in tests. */
export interface ProcessorClock {
  /** Time that never goes backwards. */
  readonly nowMs: () => number;
  /** Processor time that this thread has used. Time in which it did not run is not counted. */
  readonly usedMs: () => number;
}

const SYSTEM_CLOCK: ProcessorClock = {
  nowMs: () => performance.now(),
  usedMs: () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  },
};

/** Limit on hosts that are remembered at the same time. */
const MAX_HOSTS = 1024;

/**
 * Limits the time of the event loop that the messages of one host take, over all of its connections, also those that
 * have ended. While a host is over its limit, nothing more is read from it.
 */
export class ProcessorBudget {
  readonly #rate: ProcessorRate;
  readonly #clock: ProcessorClock;
  /** Longest known first. */
  readonly #hosts = new Map<string, HostTime>();

  constructor(rate: ProcessorRate, clock = SYSTEM_CLOCK) {
    this.#rate = rate;
    this.#clock = clock;
  }

  /** Returns the share of a host. */
  of(host: string): HostTime {
    const key = hostKeyOf(host);
    const known = this.#hosts.get(key);
    if (known !== undefined) return known;
    const [longestKnown] = this.#hosts.keys();
    if (longestKnown !== undefined && this.#hosts.size >= MAX_HOSTS) this.#hosts.delete(longestKnown);
    const added = new HostTime(this.#rate, this.#clock);
    this.#hosts.set(key, added);
    return added;
  }
}

/** The processor time of one host: a token bucket. */
export class HostTime {
  readonly #rate: ProcessorRate;
  readonly #clock: ProcessorClock;
  /** Time at which everything that was spent is paid for. */
  #paidAtMs = -Infinity;
  #isOver = false;
  /** Connections that are not read, in the order of their turns. */
  readonly #waiting = new Set<() => void>();

  constructor(rate: ProcessorRate, clock: ProcessorClock) {
    this.#rate = rate;
    this.#clock = clock;
  }

  /** True while nothing should be read from this host. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Handles bytes of this host, and counts the time that it takes.
   *
   * @param handle returns the share of the time that counts, from 0 to 1
   */
  spend(handle: () => number): void {
    const fromMs = this.#clock.usedMs();
    const share = handle();
    const spentMs = (this.#clock.usedMs() - fromMs) * share;
    const { perSecondMs, burstMs } = this.#rate;
    const nowMs = this.#clock.nowMs();
    this.#paidAtMs = Math.max(this.#paidAtMs, nowMs - (burstMs / perSecondMs) * 1000) + (spentMs / perSecondMs) * 1000;
    if (this.#paidAtMs <= nowMs || this.#isOver) return;
    this.#isOver = true;
    this.#lookAfter(this.#paidAtMs - nowMs);
  }

  /** Calls back once this host may be read again, and it is the turn of the caller. */
  whenFree(resume: () => void): void {
    this.#waiting.add(resume);
  }

  /** Resumes waiting connections one after another, until one of them uses up the time again. */
  #look(): void {
    const leftMs = this.#paidAtMs - this.#clock.nowMs();
    if (leftMs > 0) return this.#lookAfter(leftMs);
    this.#isOver = false;
    for (const resume of this.#waiting) {
      if (this.#isOver) return;
      this.#waiting.delete(resume);
      resume();
    }
  }

  #lookAfter(waitMs: number): void {
    setTimeout(() => this.#look(), waitMs).unref();
  }
}
