/** Measures bytes a second over the last few seconds. */
export class RateMeter {
  readonly #windowMs: number;
  readonly #samples: { atMs: number; bytes: number }[] = [];
  #sum = 0;

  constructor(windowMs = 2000) {
    this.#windowMs = windowMs;
  }

  add(bytes: number, nowMs = performance.now()): void {
    const last = this.#samples.at(-1);
    // One sample every 50 ms is as good as one for each packet.
    if (last !== undefined && nowMs - last.atMs < 50) last.bytes += bytes;
    else {
      this.#forget(nowMs); // the rate may never be read
      this.#samples.push({ atMs: nowMs, bytes });
    }
    this.#sum += bytes;
  }

  rate(nowMs = performance.now()): number {
    this.#forget(nowMs);
    const first = this.#samples[0];
    if (first === undefined) return 0;
    return (this.#sum * 1000) / Math.max(250, nowMs - first.atMs);
  }

  #forget(nowMs: number): void {
    for (
      let first = this.#samples[0];
      first !== undefined && nowMs - first.atMs > this.#windowMs;
      first = this.#samples[0]
    ) {
      this.#sum -= first.bytes;
      this.#samples.shift();
    }
  }
}
