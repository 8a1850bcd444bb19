/**
 * Limit on bytes in memory: in flight, being checked, or waiting for the disk. Above it nothing more is requested.
 * Including bytes that wait for earlier ranges, it is at most twice as much.
 */
const MAX_BYTES = 32 * 1024 * 1024;

/** Counts the bytes of a download that are in memory, and so decides whether more is requested. */
export class DownloadMemory {
  #requestedBytes = 0;
  #aheadBytes = 0;

  /** True if nothing may be requested. */
  get isFull(): boolean {
    return this.#requestedBytes >= MAX_BYTES;
  }

  /** True if no range may be requested that would have to wait for earlier ones of its file. */
  get isFullAhead(): boolean {
    return this.#requestedBytes + this.#aheadBytes >= MAX_BYTES;
  }

  /** Counts a requested range until it is written or given up. */
  take(bytes: number): void {
    this.#requestedBytes += bytes;
  }

  /** Ends {@link take}. @returns true if the memory was full */
  free(bytes: number): boolean {
    const wasFull = this.isFull;
    this.#requestedBytes -= bytes;
    return wasFull;
  }

  /** Counts a range that waits for earlier ones of its file. */
  takeAhead(bytes: number): void {
    this.#aheadBytes += bytes;
  }

  /** Ends {@link takeAhead}. */
  freeAhead(bytes: number): void {
    this.#aheadBytes -= bytes;
  }
}
