import type { PartialNar } from '../store/partial.ts';

/**
 * The partial file of a NAR that several sources write at once, each from its own offset on. They take turns, and bytes
 * that another one has written are left out: the first to deliver a byte is the one that it came from.
 */
export class SharedNar {
  readonly #partial: PartialNar;
  #turn: Promise<void> = Promise.resolve();

  constructor(partial: PartialNar) {
    this.#partial = partial;
  }

  /** Writes what is not there yet of bytes that go on from a held one. @throws as {@link PartialNar.write} */
  write(offset: number, bytes: Uint8Array, origin: string): Promise<void> {
    const turn = this.#turn.then(() => this.#write(offset, bytes, origin));
    this.#turn = turn.catch(() => undefined); // told to the one who writes
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
    // beyond the end of the NAR: refused there, with who sent it
    if (end > this.#partial.sizeBytes) await this.#partial.write(offset, [bytes], origin);
  }
}
