import { malformed } from './format.ts';

/** Reads windows of a stream that move forward. Keeps one window in memory. */
export class ForwardWindow {
  readonly #stream: AsyncIterator<Buffer>;
  readonly #held: Buffer;
  /** Offset of the first held byte in the stream. */
  #offset = 0;
  #heldBytes = 0;
  /** Bytes that were read and do not fit into the window. */
  #rest: Buffer = Buffer.alloc(0);

  /** @param maxBytes the largest window */
  constructor(stream: AsyncIterable<Buffer>, maxBytes: number) {
    this.#stream = stream[Symbol.asyncIterator]();
    this.#held = Buffer.allocUnsafeSlow(maxBytes);
  }

  /**
   * Returns bytes of the stream. They change with the next call.
   *
   * @throws HASH_MISMATCH if the window begins before the last one, or ends behind the stream; errors of the stream
   */
  async read(offset: number, bytes: number): Promise<Buffer> {
    if (offset < this.#offset || bytes > this.#held.length) throw malformed('its windows go back, or are too large');
    const dropped = Math.min(offset - this.#offset, this.#heldBytes);
    this.#held.copyWithin(0, dropped, this.#heldBytes);
    this.#heldBytes -= dropped;
    this.#offset += dropped;
    while (this.#offset < offset) this.#offset += (await this.#take(offset - this.#offset)).length;
    while (this.#heldBytes < bytes) {
      const more = await this.#take(bytes - this.#heldBytes);
      more.copy(this.#held, this.#heldBytes);
      this.#heldBytes += more.length;
    }
    return this.#held.subarray(0, bytes);
  }

  /** Ends the stream. */
  async close(): Promise<void> {
    await this.#stream.return?.();
  }

  /** Takes at least one byte, and at most so many. */
  async #take(bytes: number): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#stream.next();
      if (done === true) throw malformed('its base is shorter than the patch needs');
      this.#rest = value;
    }
    const taken = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(taken.length);
    return taken;
  }
}
