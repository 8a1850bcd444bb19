/**
 * Runs pieces of work at the same time, while their total memory stays below a limit. A piece above the limit runs
 * alone. Keeps the order of arrival.
 */
export class ByteTurns {
  readonly #maxBytes: number;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Runs work that needs this many bytes, once there is room. @throws the error of the work */
  async run<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#hasRoom(bytes))
      await new Promise<void>((start) => this.#waiting.push({ bytes, start }));
    else this.#bytes += bytes;
    try {
      return await work();
    } finally {
      this.#bytes -= bytes;
      for (let next = this.#waiting[0]; next !== undefined && this.#hasRoom(next.bytes); next = this.#waiting[0]) {
        this.#waiting.shift();
        this.#bytes += next.bytes;
        next.start();
      }
    }
  }

  #hasRoom(bytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + bytes <= this.#maxBytes;
  }
}
