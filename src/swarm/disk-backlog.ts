/** Pieces that wait to be written; beyond this nothing more is read from peers. */
const MAX_UNWRITTEN_BYTES = 32 * 1024 * 1024;

/** Counts what waits for the disk over all downloads, so that peers wait for it and not the memory. */
export class DiskBacklog {
  readonly #onFree = new Set<() => void>();
  #bytes = 0;
  #isFull = false;
  #freeAtMs = 0;

  get isFull(): boolean {
    return this.#isFull;
  }

  /** When it last caught up: before that nobody could send anything. Milliseconds of `performance.now()`. */
  get freeAtMs(): number {
    return this.#freeAtMs;
  }

  /** Calls back each time that it has caught up. @returns ends that */
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
