/** Failures in a row after which a source is left alone. */
const FAILURES = 2;
/** Pause after that; doubled after each further failure. */
const PAUSE_MS = 30_000;
const MAX_PAUSE_MS = 10 * 60_000;

/** Leaves a failing source alone. Tries it again later with one request. */
export class CircuitBreaker {
  #failures = 0;
  #pauseMs = PAUSE_MS;
  #untilMs = -Infinity;

  /** Returns true if the source may be asked. @param nowMs from a clock that never goes backwards */
  mayAsk(nowMs: number): boolean {
    return nowMs >= this.#untilMs;
  }

  /** Records an answer. It may be empty. */
  noteAnswer(): void {
    this.#failures = 0;
    this.#pauseMs = PAUSE_MS;
  }

  /** Records a failure: no connection, no answer in time, or garbage. */
  noteFailure(nowMs: number): void {
    if (!this.mayAsk(nowMs)) return; // this request began before the pause
    this.#failures++;
    if (this.#failures < FAILURES) return;
    this.#failures = FAILURES - 1; // then one more is enough
    this.#untilMs = nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(MAX_PAUSE_MS, this.#pauseMs * 2);
  }
}
