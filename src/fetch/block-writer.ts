import { copyInto, giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import type { SharedNar } from './shared-nar.ts';

const BLOCK_BYTES = 512 * 1024;
/** Age of a block after which the next chunk is not gathered with others. */
const BLOCK_MS = 1_000;

/**
 * Gathers the 64 KiB chunks of a socket into writes of a useful size, one after another from an offset on. Bytes of a
 * slow source wait for about a second, since another source may have to continue after them.
 */
export class BlockWriter {
  readonly #nar: SharedNar;
  readonly #origin: string;
  #offset: number;
  #block: Buffer | undefined;
  #bytes = 0;
  #beganAtMs = 0;

  constructor(nar: SharedNar, offset: number, origin: string) {
    this.#nar = nar;
    this.#offset = offset;
    this.#origin = origin;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      if (this.#block === undefined) this.#beganAtMs = performance.now();
      this.#block ??= takeBuffer(BLOCK_BYTES);
      const part = chunk.subarray(at, at + BLOCK_BYTES - this.#bytes);
      copyInto(this.#block, part, this.#bytes);
      this.#bytes += part.length;
      at += part.length;
      if (this.#bytes === BLOCK_BYTES) await this.flush();
    }
    if (this.#block !== undefined && performance.now() - this.#beganAtMs > BLOCK_MS) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#block === undefined) return;
    const block = this.#block;
    const bytes = block.subarray(0, this.#bytes);
    const offset = this.#offset;
    this.#offset += this.#bytes;
    this.#block = undefined;
    this.#bytes = 0;
    await this.#nar.write(offset, bytes, this.#origin);
    giveBack(block);
  }
}
