/** Silence of all peers after which the line may be out. */
const SILENT_MS = 1_000;
/** Silence after which the line was certainly out, so that no peer could send. */
const OUT_MS = 2_500;

/** This machine's internet line, judged by the bytes of peers: while all are silent, none of them is to blame. */
export class Line {
  #lastByteAtMs = -Infinity;
  #backAtMs = -Infinity;

  /** Time at which the line last came back, in milliseconds of `performance.now()`. */
  get backAtMs(): number {
    return this.#backAtMs;
  }

  /** Records that a peer has sent payload. */
  onBytes(nowMs = performance.now()): void {
    if (nowMs - this.#lastByteAtMs > OUT_MS) this.#backAtMs = nowMs;
    this.#lastByteAtMs = nowMs;
  }

  /** Returns true while no peer sends anything. */
  isSilent(nowMs = performance.now()): boolean {
    return nowMs - this.#lastByteAtMs > SILENT_MS;
  }
}
