import { giveBack, takeBuffer } from '../bytes/lent-buffers.ts';

/** Bytes of a whole chunk: more than a socket takes before it asks to wait (64 KiB). */
export const CHUNK_BYTES = 256 * 1024;
/** One is being sent, one waits in the stream, and one is being filled. */
const COUNT = 3;

/**
 * The buffers for the chunks of one answer. With a new one for each chunk, V8 would collect its whole heap again and again:
 * that took two thirds of the processor time.
 *
 * Whole chunks take turns in three buffers. So the stream of the answer must have a high water mark of one byte: it then
 * asks for the next chunk but one only after the socket has sent this one.
 */
export class AnswerBuffers {
  readonly #taken: Buffer[] = [];
  #count = 0;

  /** Returns a buffer for the next chunk, of at most {@link CHUNK_BYTES}. */
  take(bytes: number): Buffer {
    if (bytes < CHUNK_BYTES) return Buffer.allocUnsafe(bytes); // a socket takes several of them at once
    const turn = this.#count++ % COUNT;
    return (this.#taken[turn] ??= takeBuffer(CHUNK_BYTES).subarray(0, CHUNK_BYTES));
  }

  /** Gives the buffers to others. The answer must be over: sent, or broken off. */
  giveBack(): void {
    this.#taken.splice(0).forEach(giveBack);
  }
}
