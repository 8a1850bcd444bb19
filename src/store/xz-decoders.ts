import { availableParallelism } from 'node:os';
import { XzDecoder } from './xz-decoder.ts';

/** Decodes files on all processors. Decoded files take bounded room until they are released. */
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

  /** True if a processor is free. */
  get isFree(): boolean {
    return this.#running < availableParallelism();
  }

  /** Returns true if so many bytes ever fit. */
  mayHold(bytes: number): boolean {
    return bytes <= this.#maxBytes;
  }

  /** Returns true if so many bytes fit now into this part of the room. */
  hasRoom(bytes: number, part = 1): boolean {
    return this.#heldBytes + bytes <= this.#maxBytes * part;
  }

  /** Takes room for a decoded file. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
  }

  /** Gives back the room of a decoded file that is no longer needed. */
  release(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /**
   * Decodes a file.
   *
   * @param bytes size of the decoded file. More is refused
   * @returns as {@link XzDecoder.decode}
   */
  async decode(from: string, to: string, bytes: number): Promise<boolean> {
    return this.occupy(async () => {
      const decoder = this.#idle.pop() ?? new XzDecoder(this.#signal);
      this.#all.add(decoder);
      try {
        return await decoder.decode(from, to, bytes);
      } finally {
        this.#idle.push(decoder);
      }
    });
  }

  /** Does other work on one of the processors. */
  async occupy<T>(work: () => Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await work();
    } finally {
      this.#running--;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#all, (decoder) => decoder[Symbol.asyncDispose]()));
  }
}
