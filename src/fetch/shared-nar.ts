import type { PartialNar } from '../store/partial.ts';

/**
 * The partial file of a NAR that several sources write at once, each from its own offset. Writes take turns. Bytes that
 * another source has already written are left out, and count for that source.
 */
export class SharedNar {
  readonly #partial: PartialNar;
  #turn: Promise<void> = Promise.resolve();

  constructor(partial: PartialNar) {
    this.#partial = partial;
  }

  /** Writes those of the bytes that are new. The bytes must follow a held one. @throws as {@link PartialNar.write} */
  write(offset: number, bytes: Uint8Array, origin: string): Promise<void> {
    const turn = this.#turn.then(() => this.#write(offset, bytes, origin));
    this.#turn = turn.catch(() => undefined); // its own caller gets the error
    return turn;
  }

  async #write(offset: number, bytes: Uint8Array, origin: string): Promise<void> {
    const end = offset + bytes.length;
    let at = offset;
    for (const { from, to } of this.#partial.missing()) {
      if (to <= at) continue;
      const start = Math.max(at, from);
      if (start >= end) return;
      at = Math.min(end, to);
      await this.#partial.write(start, [bytes.subarray(start - offset, at - offset)], origin);
    }
    // Bytes beyond the end of the NAR are refused by `write`, with the sender.
    if (end > this.#partial.sizeBytes) await this.#partial.write(offset, [bytes], origin);
  }
}
