import { MAX_UNASKED_BYTES } from './bounds.ts';

/** A block that was requested from a peer. */
export interface AskedBlock {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
  /** Number of the try at its piece: see the piece ledger. */
  readonly attempt: number;
  /** Number of the swarm's requests that the block answers. */
  readonly times: number;
}

/** Pieces have at most 16 MiB, and there are at most 2^20, so a double holds the key. */
const OFFSETS = 2 ** 24;

/**
 * The blocks that were requested from one peer and have not arrived. Unrequested blocks do not count for a peer, and
 * many of them are an attack.
 */
export class AskedBlocks {
  readonly #asked = new Map<number, AskedBlock>();
  #bytes = 0;
  #unaskedBytes = 0;
  #silentSinceMs = 0;

  get size(): number {
    return this.#asked.size;
  }

  /** Requested bytes that have not arrived yet. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Time since which it could have sent something: that of its last block, or of the first request after that block.
   */
  get silentSinceMs(): number {
    return this.#silentSinceMs;
  }

  get(index: number, offset: number): AskedBlock | undefined {
    return this.#asked.get(keyOf(index, offset));
  }

  all(): AskedBlock[] {
    return [...this.#asked.values()];
  }

  /** Adds a request. @returns the block; undefined if the peer owes it already: it answers this request, too */
  add(request: Omit<AskedBlock, 'times'>, nowMs = performance.now()): AskedBlock | undefined {
    if (this.#asked.size === 0) this.#silentSinceMs = nowMs;
    const key = keyOf(request.index, request.offset);
    const owed = this.#remove(key);
    const isOwed = owed?.length === request.length;
    const block = { ...request, times: isOwed ? owed.times + 1 : 1 };
    this.#asked.set(key, block);
    this.#bytes += block.length;
    return isOwed ? undefined : block;
  }

  /** Settles the request that a block answers, and returns it. Undefined if the block was not requested. */
  onBlock(index: number, offset: number, length: number, nowMs = performance.now()): AskedBlock | undefined {
    const block = this.#asked.get(keyOf(index, offset));
    if (block?.length !== length) {
      this.#unaskedBytes += length;
      return undefined;
    }
    this.#silentSinceMs = nowMs;
    return this.#remove(keyOf(index, offset));
  }

  /** Settles a rejected request, and returns it. */
  onReject(index: number, offset: number): AskedBlock | undefined {
    return this.#remove(keyOf(index, offset));
  }

  /** Withdraws requests. Their blocks may still arrive, which is not an offence. */
  withdraw(blocks: readonly AskedBlock[] = this.all()): AskedBlock[] {
    for (const { index, offset, length } of blocks) {
      this.#unaskedBytes -= length;
      this.#remove(keyOf(index, offset));
    }
    return [...blocks];
  }

  /** True once more unrequested bytes have come than can have been on their way. */
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
