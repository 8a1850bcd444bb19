/** Longest time between two looks that counts. In a longer one, this process did not run, and read nothing. */
const MAX_LOOK_MS = 500;

/** A clock that stands still while this process does not run: it was stopped, or the machine had much else to do. */
export class OwnClock {
  readonly #now: () => number;
  #lookedAtMs: number;
  #ownMs = 0;

  /** @param now milliseconds from any start. Default: `performance.now` */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#lookedAtMs = now();
  }

  /** Milliseconds from any start. They pass only while looks are made. */
  get ownMs(): number {
    return this.#ownMs + Math.min(MAX_LOOK_MS, this.#now() - this.#lookedAtMs);
  }

  /** Call it about every 250 ms while somebody uses the clock. */
  look(): void {
    this.#ownMs = this.ownMs;
    this.#lookedAtMs = this.#now();
  }
}
