import { RateLimit, type RateLimitOptions } from './rate-limit.ts';
import { YieldingRate, type YieldingState } from './yielding-rate.ts';

/** Time over which arriving bytes are measured. */
const ARRIVING_MS = 1_500;
/** With more, unused bytes would arrive all at once, and wait in the queue of the line. */
const BURST_MS = 20;

/** A limit that yields to all other traffic on the line, as long as somebody measures the delay there. */
export class YieldingLimit extends RateLimit {
  override readonly yields = true;
  /** The sum of all bytes at the times of looks, the oldest first: downloads come in bursts. */
  readonly #sums: { readonly atMs: number; readonly bytes: number }[] = [];
  #bytes = 0;
  #control = new YieldingRate();
  /** True from the time when no server answered until one does: questions without an answer tell nothing then. */
  #isBlind = false;

  constructor(options: RateLimitOptions = {}) {
    super(undefined, { ...options, burstMs: BURST_MS });
  }

  get state(): YieldingState {
    return this.#control.state;
  }

  override take(bytes: number, nowMs?: number): number {
    this.#bytes += bytes;
    return super.take(bytes, nowMs);
  }

  override charge(bytes: number, nowMs?: number): void {
    this.#bytes += bytes;
    super.charge(bytes, nowMs);
  }

  /** Notes the delay of a small question over the same line, or the time so far if there is no answer yet. */
  onDelay(delayMs: number, isAnswered: boolean, nowMs = performance.now()): void {
    if (this.#isBlind && !isAnswered) return;
    this.#isBlind = false;
    const arrivingBytesPerSec = this.#arrivingRate(nowMs);
    this.moveTo(this.#control.look({ nowMs, delayMs, isAnswered, arrivingBytesPerSec }));
  }

  #arrivingRate(nowMs: number): number {
    const sums = this.#sums;
    sums.push({ atMs: nowMs, bytes: this.#bytes });
    while (sums[1] !== undefined && sums[1].atMs <= nowMs - ARRIVING_MS) sums.shift();
    const [first] = sums;
    return first === undefined || first.atMs === nowMs
      ? 0
      : ((this.#bytes - first.bytes) * 1000) / (nowMs - first.atMs);
  }

  /** Forgets all delays, and limits nothing until there is one again. */
  onBlind(): void {
    this.#control = new YieldingRate();
    this.#isBlind = true;
    this.moveTo(Infinity);
  }
}
