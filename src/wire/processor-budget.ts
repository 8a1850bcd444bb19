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
 * Limits the time of the event loop that the messages of one host take, over all of its connections of one protocol,
 * also those that have ended. While a host is over its limit, nothing more is read from it.
 */
export class ProcessorBudget {
  readonly #rate: ProcessorRate;
  readonly #clock: ProcessorClock;
  readonly #aftermath: Aftermath;
  /** Longest known first. */
  readonly #hosts = new Map<string, HostTime>();

  constructor(rate: ProcessorRate, clock = SYSTEM_CLOCK) {
    this.#rate = rate;
    this.#clock = clock;
    this.#aftermath = new Aftermath(clock);
  }

  /** Returns the share of a host. */
  of(host: string): HostTime {
    const key = hostKeyOf(host);
    const known = this.#hosts.get(key);
    if (known !== undefined) return known;
    const [longestKnown] = this.#hosts.keys();
    if (longestKnown !== undefined && this.#hosts.size >= MAX_HOSTS) this.#hosts.delete(longestKnown);
    const added = new HostTime(this.#rate, this.#clock, this.#aftermath);
    this.#hosts.set(key, added);
    return added;
  }
}

/** The processor time of one host: a token bucket. */
export class HostTime {
  readonly #rate: ProcessorRate;
  readonly #clock: ProcessorClock;
  readonly #aftermath: Aftermath;
  /** Time at which everything that was spent is paid for. */
  #paidAtMs = -Infinity;
  #isOver = false;
  /** Connections that are not read, in the order of their turns. */
  readonly #waiting = new Set<() => void>();

  constructor(rate: ProcessorRate, clock: ProcessorClock, aftermath: Aftermath) {
    this.#rate = rate;
    this.#clock = clock;
    this.#aftermath = aftermath;
  }

  /** True while nothing should be read from this host. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Handles bytes of this host, and counts the time that it takes.
   *
   * @param handle returns the share of the time that counts, from 0 to 1
   * @param options.andAfter true to count the rest of this turn of the event loop, too: a stream passes bytes on in a
   *   microtask. Default: false
   */
  spend(handle: () => number, { andAfter = false }: { readonly andAfter?: boolean } = {}): void {
    this.#aftermath.end();
    const fromMs = this.#clock.usedMs();
    const share = handle();
    this.#count((this.#clock.usedMs() - fromMs) * share);
    if (andAfter) this.#aftermath.begin((ms) => this.#count(ms * share));
  }

  /**
   * Takes over a new connection at a fixed price: at once, or when this host is no longer over its limit and it is the turn of
   * this connection. Rejects with the error of `takeOver`.
   */
  enter(priceMs: number, takeOver: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        this.#count(priceMs);
        try {
          takeOver();
          resolve();
        } catch (error) {
          reject(error);
        }
      };
      if (this.#isOver) this.whenFree(enter);
      else enter();
    });
  }

  /** Calls back once this host may be read again, and it is the turn of the caller. */
  whenFree(resume: () => void): void {
    this.#waiting.add(resume);
  }

  #count(spentMs: number): void {
    const { perSecondMs, burstMs } = this.#rate;
    const nowMs = this.#clock.nowMs();
    this.#paidAtMs = Math.max(this.#paidAtMs, nowMs - (burstMs / perSecondMs) * 1000) + (spentMs / perSecondMs) * 1000;
    if (this.#paidAtMs <= nowMs || this.#isOver) return;
    this.#isOver = true;
    this.#lookAfter(this.#paidAtMs - nowMs);
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

/** Measures what follows the messages of a host, until the end of the turn of the event loop or other messages. */
class Aftermath {
  readonly #clock: ProcessorClock;
  #open: { readonly fromMs: number; readonly count: (ms: number) => void } | undefined;

  constructor(clock: ProcessorClock) {
    this.#clock = clock;
  }

  begin(count: (ms: number) => void): void {
    const open = { fromMs: this.#clock.usedMs(), count };
    this.#open = open;
    // A tick that a microtask asks for comes after all microtasks.
    queueMicrotask(() => process.nextTick(() => open === this.#open && this.end()));
  }

  end(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.count(this.#clock.usedMs() - open.fromMs);
  }
}
