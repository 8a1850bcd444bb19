import { availableParallelism } from 'node:os';
import { XzDecoder } from './xz-decoder.ts';

/** Decodes files on all processors. What it has decoded takes bounded room until it is released. */
export class XzDecoders implements AsyncDisposable {
  readonly #maxBytes: number;
  readonly #signal: AbortSignal;
  readonly #idle: XzDecoder[] = [];
  readonly #all = new Set<XzDecoder>();
  #heldBytes = 0;
  #running = 0;

  /** @param maxBytes bound on decoded bytes that are not released. 0: nothing is decoded */
  constructor(maxBytes: number, signal: AbortSignal) {
    this.#maxBytes = maxBytes;
    this.#signal = signal;
  }

  /** True while it decodes. */
  get isBusy(): boolean {
    return this.#running > 0;
  }

  /** Returns true if so many bytes ever fit. */
  mayHold(bytes: number): boolean {
    return bytes <= this.#maxBytes;
  }

  /** Returns true if a processor is free, and room in this part of the whole. */
  hasRoom(bytes: number, part = 1): boolean {
    return this.#running < availableParallelism() && this.#heldBytes + bytes <= this.#maxBytes * part;
  }

  /**
   * Decodes a file. Its room is taken at once.
   *
   * @param bytes size of the decoded file. More is refused
   * @returns as {@link XzDecoder.decode}
   */
  async decode(from: string, to: string, bytes: number): Promise<boolean> {
    this.#running++;
    this.#heldBytes += bytes;
    const decoder = this.#idle.pop() ?? new XzDecoder(this.#signal);
    this.#all.add(decoder);
    try {
      return await decoder.decode(from, to, bytes);
    } finally {
      this.#running--;
      this.#idle.push(decoder);
    }
  }

  /** Gives back the room of a decoded file that is no longer needed. */
  release(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#all, (decoder) => decoder[Symbol.asyncDispose]()));
  }
}
