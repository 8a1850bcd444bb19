import { RateMeter } from '../bytes/rate-meter.ts';

/** Working time after which a rate is known. It is known earlier if a transfer has ended. */
const SETTLE_MS = 500;
/** Working time over which the rate is measured. */
const WINDOW_MS = 3_000;

/**
 * Measures the bytes a second that a source delivers while something is requested. Idle time does not count, so the
 * rate of an idle source is that of its last work.
 */
export class SourceRate {
  readonly #meter = new RateMeter(WINDOW_MS);
  #flows = 0;
  #bytes = 0;
  #hasDelivered = false;
  #workedMs = 0;
  #busySinceMs = 0;
  #lastByteAtMs = -Infinity;

  /** Number of open transfers. */
  get flows(): number {
    return this.#flows;
  }

  /** Time of the last bytes, over all transfers. */
  get lastByteAtMs(): number {
    return this.#lastByteAtMs;
  }

  /** Counts a transfer that begins. */
  begin(nowMs: number): void {
    if (this.#flows++ === 0) this.#busySinceMs = nowMs;
  }

  /** Counts a transfer that has ended. */
  end(nowMs: number): void {
    this.#hasDelivered ||= this.#bytes > 0;
    if (--this.#flows === 0) this.#workedMs += nowMs - this.#busySinceMs;
  }

  /** Counts received bytes. */
  add(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    this.#lastByteAtMs = nowMs;
    this.#meter.add(bytes, this.#clockMs(nowMs));
  }

  /** Returns true once it has worked long enough for a reliable rate. */
  isSettled(nowMs: number): boolean {
    return this.#clockMs(nowMs) >= SETTLE_MS;
  }

  /** Returns the bytes a second over all its transfers. Undefined until enough was requested. */
  rate(nowMs: number): number | undefined {
    const clockMs = this.#clockMs(nowMs);
    return !this.#hasDelivered && clockMs < SETTLE_MS ? undefined : this.#meter.rate(clockMs);
  }

  /** Returns the average since it was first asked, however short that was. Undefined before the first byte. */
  rateSoFar(nowMs: number): number | undefined {
    return this.#bytes > 0 ? (this.#bytes * 1000) / Math.max(1, this.#clockMs(nowMs)) : undefined;
  }

  /** Returns a clock that stands still while the source has nothing to do. */
  #clockMs(nowMs: number): number {
    return this.#workedMs + (this.#flows > 0 ? nowMs - this.#busySinceMs : 0);
  }
}
