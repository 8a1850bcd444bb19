/** No peer at all has sent anything for so long: it may be the line. */
const SILENT_MS = 1_000;
/** After so long the line was out, and nobody could send anything until it was back. */
const OUT_MS = 2_500;

/** This machine's line, as far as it shows in what peers send: while all are silent, none of them is to blame. */
export class Line {
  #lastByteAtMs = -Infinity;
  #backAtMs = -Infinity;

  /** When the line was last found to be back; milliseconds of `performance.now()`. */
  get backAtMs(): number {
    return this.#backAtMs;
  }

  /** Records that a peer has sent payload. */
  onBytes(nowMs = performance.now()): void {
    if (nowMs - this.#lastByteAtMs > OUT_MS) this.#backAtMs = nowMs;
    this.#lastByteAtMs = nowMs;
  }

  /** True while no peer sends anything. */
  isSilent(nowMs = performance.now()): boolean {
    return nowMs - this.#lastByteAtMs > SILENT_MS;
  }
}
