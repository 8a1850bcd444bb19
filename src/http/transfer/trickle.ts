/** Tells a trickle from an answer: pure, without a clock. */

/** Longest time over which a rate is measured, as in curl (lib/progress.c). */
const MAX_WINDOW_MS = 5_000;
/** An answer below this rate trickles, as in Nix (`CURLOPT_LOW_SPEED_LIMIT`, src/libstore/filetransfer.cc). */
const MIN_BYTES_PER_SEC = 1;

/** Watches the rate of an answer. Time without any byte is not its subject. */
export class Trickle {
  readonly #limitMs: number;
  readonly #windowMs: number;
  #lastFlowMs: number;
  #windowStartMs = -Infinity;
  #windowBytes = 0;

  /** @param limitMs time below 1 byte/s until an answer counts as stalled */
  constructor(limitMs: number, nowMs: number) {
    this.#limitMs = limitMs;
    this.#windowMs = Math.min(MAX_WINDOW_MS, limitMs);
    this.#lastFlowMs = nowMs;
  }

  /** Leaves out the time in which no bytes were wanted. */
  resume(nowMs: number): void {
    this.#lastFlowMs = nowMs;
  }

  /** Takes the number of bytes that have just come. @returns true if less than 1 byte/s has come for the whole limit */
  take(bytes: number, nowMs: number): boolean {
    if (nowMs - this.#windowStartMs >= this.#windowMs) {
      this.#windowStartMs = nowMs;
      this.#windowBytes = 0;
    }
    this.#windowBytes += bytes;
    if (this.#windowBytes * 1_000 >= this.#windowMs * MIN_BYTES_PER_SEC) this.#lastFlowMs = nowMs;
    return nowMs - this.#lastFlowMs >= this.#limitMs;
  }
}
