import type { PartialNar } from '../../store/partial.ts';

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

  /** Writes those of adjacent chunks that are new. They must follow a held byte. @throws as {@link PartialNar.write} */
  write(offset: number, chunks: readonly Uint8Array[], origin: string): Promise<void> {
    const turn = this.#turn.then(() => this.#write(offset, chunks, origin));
    this.#turn = turn.catch(() => undefined); // its own caller gets the error
    return turn;
  }

  async #write(offset: number, chunks: readonly Uint8Array[], origin: string): Promise<void> {
    const end = chunks.reduce((sum, chunk) => sum + chunk.length, offset);
    let at = offset;
    for (const { from, to } of this.#partial.missing()) {
      if (to <= at) continue;
      const start = Math.max(at, from);
      if (start >= end) return;
      at = Math.min(end, to);
      await this.#partial.write(start, partOf(chunks, start - offset, at - offset), origin);
    }
    // Bytes beyond the end of the NAR are refused by `write`, with the sender.
    if (end > this.#partial.sizeBytes) await this.#partial.write(offset, chunks, origin);
  }
}

/** Returns the bytes `[from, to)` of adjacent chunks. */
function partOf(chunks: readonly Uint8Array[], from: number, to: number): readonly Uint8Array[] {
  const part: Uint8Array[] = [];
  let at = 0;
  for (const chunk of chunks) {
    const slice = chunk.subarray(Math.max(0, from - at), Math.max(0, to - at));
    if (slice.length > 0) part.push(slice);
    at += chunk.length;
  }
  return part;
}
