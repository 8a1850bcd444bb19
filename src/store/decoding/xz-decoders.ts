import { XzDecoder } from './xz-decoder.ts';

/** Decodes several xz files at a time. Each decoder is used again. */
export class XzDecoders implements AsyncDisposable {
  readonly #signal: AbortSignal;
  readonly #idle: XzDecoder[] = [];
  readonly #all = new Set<XzDecoder>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /**
   * Decodes a file.
   *
   * @param bytes size of the decoded file. More is refused
   * @returns as {@link XzDecoder.decode}
   */
  async decode(from: string, to: string, bytes: number): Promise<boolean> {
    const decoder = this.#idle.pop() ?? new XzDecoder(this.#signal);
    this.#all.add(decoder);
    try {
      return await decoder.decode(from, to, bytes);
    } finally {
      this.#idle.push(decoder);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(Array.from(this.#all, (decoder) => decoder[Symbol.asyncDispose]()));
  }
}
