import type { Backpressure } from '../wire/backpressure.ts';

/** Limit on bytes that wait to be written. Beyond it, nothing more is read from peers. */
const MAX_UNWRITTEN_BYTES = 32 * 1024 * 1024;

/** Counts the bytes of all downloads that wait for the disk. Peers wait if it is slow, so that memory does not fill. */
export class DiskBacklog implements Backpressure {
  readonly #onFree = new Set<() => void>();
  #bytes = 0;
  #isFull = false;
  #freeAtMs = 0;

  get isFull(): boolean {
    return this.#isFull;
  }

  /** When the backlog was last cleared, in milliseconds of `performance.now()`. Before that, no peer could send. */
  get freeAtMs(): number {
    return this.#freeAtMs;
  }

  /** Calls `listener` each time the backlog is cleared. @returns a function that ends the calls */
  onFree(listener: () => void): () => void {
    this.#onFree.add(listener);
    return () => this.#onFree.delete(listener);
  }

  /** Counts bytes until they are written. */
  async write(bytes: number, write: () => Promise<void>): Promise<void> {
    this.#bytes += bytes;
    this.#isFull ||= this.#bytes > MAX_UNWRITTEN_BYTES;
    try {
      await write();
    } finally {
      this.#bytes -= bytes;
      if (this.#isFull && this.#bytes <= MAX_UNWRITTEN_BYTES / 2) this.#free();
    }
  }

  #free(): void {
    this.#isFull = false;
    this.#freeAtMs = performance.now();
    for (const listener of this.#onFree) listener();
  }
}
