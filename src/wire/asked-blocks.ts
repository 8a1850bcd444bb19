import { MAX_UNASKED_BYTES } from './bounds.ts';

/** A block that a peer was asked for. */
export interface AskedBlock {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
  /** Which try at the piece it belongs to: see the piece ledger. */
  readonly attempt: number;
}

/** Pieces have at most 16 MiB, and there are at most 2^20: a double holds the key. */
const OFFSETS = 2 ** 24;

/** What one peer was asked for and has not sent yet: what else it sends is no merit, and much of it an attack. */
export class AskedBlocks {
  readonly #asked = new Map<number, AskedBlock>();
  #bytes = 0;
  #unaskedBytes = 0;
  #silentSinceMs = 0;

  get size(): number {
    return this.#asked.size;
  }

  /** Bytes that were asked for and are not here yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Since when it could have sent something: its last block, or the first request after that. */
  get silentSinceMs(): number {
    return this.#silentSinceMs;
  }

  get(index: number, offset: number): AskedBlock | undefined {
    return this.#asked.get(keyOf(index, offset));
  }

  all(): AskedBlock[] {
    return [...this.#asked.values()];
  }

  add(block: AskedBlock, nowMs = performance.now()): void {
    if (this.#asked.size === 0) this.#silentSinceMs = nowMs;
    this.#remove(keyOf(block.index, block.offset)); // whoever asks again for a block waits for one
    this.#asked.set(keyOf(block.index, block.offset), block);
    this.#bytes += block.length;
  }

  /** The request that a block answers, which is settled; undefined if nobody asked for it. */
  onBlock(index: number, offset: number, length: number, nowMs = performance.now()): AskedBlock | undefined {
    const block = this.#asked.get(keyOf(index, offset));
    if (block?.length !== length) {
      this.#unaskedBytes += length;
      return undefined;
    }
    this.#silentSinceMs = nowMs;
    return this.#remove(keyOf(index, offset));
  }

  /** The request that is turned down, which is settled. */
  onReject(index: number, offset: number): AskedBlock | undefined {
    return this.#remove(keyOf(index, offset));
  }

  /** Takes requests back. Their blocks may be on their way, and are no offence. */
  withdraw(blocks: readonly AskedBlock[] = this.all()): AskedBlock[] {
    for (const { index, offset, length } of blocks) {
      this.#unaskedBytes -= length;
      this.#remove(keyOf(index, offset));
    }
    return [...blocks];
  }

  /** True once more has come that nobody asked for than can have been on its way. */
  get isFlooded(): boolean {
    return this.#unaskedBytes > MAX_UNASKED_BYTES;
  }

  #remove(key: number): AskedBlock | undefined {
    const block = this.#asked.get(key);
    if (block === undefined) return undefined;
    this.#asked.delete(key);
    this.#bytes -= block.length;
    return block;
  }
}

function keyOf(index: number, offset: number): number {
  return index * OFFSETS + offset;
}
