import { RateMeter } from './rate-meter.ts';

const LONG_MS = 10_000;
/** Time before the first estimate. */
const FIRST_MS = 3_000;
/** The last two seconds may differ from the last ten by this factor. */
const FACTOR = 1.6;

/** Measures bytes a second, and estimates how long more bytes take. */
export class SteadyRate {
  readonly #recent = new RateMeter();
  readonly #long = new RateMeter(LONG_MS);
  #firstAtMs: number | undefined;

  add(bytes: number, nowMs = performance.now()): void {
    if (bytes === 0) return;
    this.#firstAtMs ??= nowMs;
    this.#recent.add(bytes, nowMs);
    this.#long.add(bytes, nowMs);
  }

  /** Bytes a second over the last two seconds. */
  rate(nowMs = performance.now()): number {
    return this.#recent.rate(nowMs);
  }

  /** Returns the seconds that more bytes take. Undefined unless the rate has been steady for a while. */
  secondsFor(bytes: number, nowMs = performance.now()): number | undefined {
    if (this.#firstAtMs === undefined || nowMs - this.#firstAtMs < FIRST_MS) return undefined;
    const [recent, long] = [this.#recent.rate(nowMs), this.#long.rate(nowMs)];
    const isSteady = recent > 0 && recent <= long * FACTOR && long <= recent * FACTOR;
    return isSteady ? bytes / long : undefined;
  }
}
