import { RateMeter } from '../bytes/rate-meter.ts';

/** A rate is told from so many milliseconds of work on, or from the first transfer that has ended with something. */
const SETTLE_MS = 500;
/** The rate is that of the last milliseconds of work. */
const WINDOW_MS = 3_000;

/**
 * Bytes a second that a source delivers while something is asked of it. Time in which it has nothing to do does not
 * count, so that the rate of an idle source is that of its last work.
 */
export class SourceRate {
  readonly #meter = new RateMeter(WINDOW_MS);
  #flows = 0;
  #hasBytes = false;
  #hasDelivered = false;
  #workedMs = 0;
  #busySinceMs = 0;

  /** Transfers that are open now. */
  get flows(): number {
    return this.#flows;
  }

  /** Counts a transfer that begins. */
  begin(nowMs: number): void {
    if (this.#flows++ === 0) this.#busySinceMs = nowMs;
  }

  /** Counts a transfer that has ended. */
  end(nowMs: number): void {
    this.#hasDelivered ||= this.#hasBytes;
    if (--this.#flows === 0) this.#workedMs += nowMs - this.#busySinceMs;
  }

  /** Counts bytes that came. */
  add(bytes: number, nowMs: number): void {
    this.#hasBytes = true;
    this.#meter.add(bytes, this.#clockMs(nowMs));
  }

  /** True once it has worked for so long that its rate is no accident. */
  isSettled(nowMs: number): boolean {
    return this.#clockMs(nowMs) >= SETTLE_MS;
  }

  /** Bytes a second over all its transfers; undefined while too little has been asked of it to tell. */
  rate(nowMs: number): number | undefined {
    const clockMs = this.#clockMs(nowMs);
    return !this.#hasDelivered && clockMs < SETTLE_MS ? undefined : this.#meter.rate(clockMs);
  }

  /** Stands still while the source has nothing to do. */
  #clockMs(nowMs: number): number {
    return this.#workedMs + (this.#flows > 0 ? nowMs - this.#busySinceMs : 0);
  }
}
