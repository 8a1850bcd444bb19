/** Bytes that no compressor shrinks, and numbers made of them. */
import { createCipheriv, createHash } from 'node:crypto';

/** A stream of pseudo-random bytes: the same seed always gives the same. */
export class RandomStream {
  readonly #cipher;

  constructor(seed: string) {
    const key = createHash('sha256').update(seed).digest();
    this.#cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  }

  /** The next `count` bytes, at about 2 GB/s. */
  bytes(count: number): Buffer {
    return this.#cipher.update(Buffer.alloc(count));
  }

  /** Uniform in 0 (included) to 1 (not). */
  fraction(): number {
    return this.bytes(4).readUInt32LE() / 2 ** 32;
  }

  /** A whole number, uniform in 0 (included) to `end` (not). */
  below(end: number): number {
    return Math.floor(this.fraction() * end);
  }

  /** A sample of the log-normal distribution with this median; `sigma` is the deviation of its logarithm. */
  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.fraction()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.fraction()));
  }
}
