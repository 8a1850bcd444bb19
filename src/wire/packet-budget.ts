import { rangeOf } from './address-range.ts';

/** Limits on packets of up to 1500 bytes: per second on average, and at once after a quiet time. */
export interface PacketRates {
  readonly total: number;
  /** Limits for one network of {@link rangeOf}. */
  readonly perRange: number;
  readonly burst: number;
  readonly burstPerRange: number;
}

/** Limit on networks that are counted at the same time. */
const MAX_RANGES = 1024;

/** Bytes of the longest packet that most networks carry in one piece. A longer one takes longer to read, and counts more. */
const FRAME_BYTES = 1500;

/** Limits the packets that strangers can make us read per second. One network cannot use up the share of all others. */
export class PacketBudget {
  readonly #rates: PacketRates;
  readonly #now: () => number;
  readonly #keyOf: (host: string) => string;
  readonly #all: Bucket;
  readonly #ranges = new Map<string, Bucket>();

  /**
   * @param now milliseconds from a clock that never goes backwards
   * @param keyOf returns the key of addresses that share a limit. Default: their network
   */
  constructor(rates: PacketRates, now: () => number = () => performance.now(), keyOf = rangeOf) {
    this.#rates = rates;
    this.#now = now;
    this.#keyOf = keyOf;
    this.#all = { tokens: rates.burst, atMs: now() };
  }

  /** Returns true if a packet from this address may be read, and counts it. @param bytes its length. Default: a short one */
  admit(host: string, bytes = 0): boolean {
    const { total, perRange, burst, burstPerRange } = this.#rates;
    const now = this.#now();
    const tokens = Math.max(1, Math.ceil(bytes / FRAME_BYTES));
    const range = this.#keyOf(host);
    let bucket = this.#ranges.get(range);
    if (bucket === undefined) {
      if (this.#ranges.size >= MAX_RANGES) this.#forgetOldest();
      this.#ranges.set(range, (bucket = { tokens: burstPerRange, atMs: now }));
    }
    refill(bucket, perRange, burstPerRange, now);
    refill(this.#all, total, burst, now);
    if (bucket.tokens < tokens || this.#all.tokens < tokens) return false;
    bucket.tokens -= tokens;
    this.#all.tokens -= tokens;
    return true;
  }

  #forgetOldest(): void {
    const [oldest] = this.#ranges.keys();
    if (oldest !== undefined) this.#ranges.delete(oldest);
  }
}

interface Bucket {
  tokens: number;
  atMs: number;
}

function refill(bucket: Bucket, perSecond: number, burst: number, now: number): void {
  bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.atMs) / 1000) * perSecond);
  bucket.atMs = now;
}
