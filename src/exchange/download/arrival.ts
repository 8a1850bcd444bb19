import { RateMeter } from '../../bytes/rate-meter.ts';

/** Time without a range of a file after which a host no longer gives it. */
const GIVES_MS = 3_000;
/** Time over which the rate is measured: on a slow line, a range takes seconds. */
const RATE_MS = 10_000;

/** How one file arrives from members: from which hosts, and how fast. */
export class Arrival {
  readonly #now: () => number;
  readonly #rate = new RateMeter(RATE_MS);
  readonly #gaveAtMs = new Map<string, number>();
  #bytes = 0;
  /** When requests were stopped. Undefined while there are some. */
  #stoppedAtMs: number | undefined;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Records a range that a host has sent. */
  onRange(host: string, bytes: number): void {
    const nowMs = this.#now();
    this.#gaveAtMs.set(host, nowMs);
    this.#rate.add(bytes, nowMs);
    this.#bytes += bytes;
  }

  /** Begins again: ranges are requested. */
  start(): void {
    this.#stoppedAtMs = undefined;
  }

  /** Keeps the rate while nothing is requested. */
  stop(): void {
    this.#stoppedAtMs ??= this.#now();
  }

  /** Returns true if a host has given a range a moment ago. */
  isFrom(host: string): boolean {
    return this.#now() - (this.#gaveAtMs.get(host) ?? -Infinity) < GIVES_MS;
  }

  /** Bytes a second while ranges were last requested. Undefined if none has arrived. */
  get bytesPerSec(): number | undefined {
    return this.#bytes === 0 ? undefined : this.#rate.rate(this.#stoppedAtMs ?? this.#now());
  }
}
