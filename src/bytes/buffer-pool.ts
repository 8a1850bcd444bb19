const SMALLEST_BYTES = 16 * 1024;
/**
 * Limit on unused bytes that are kept for the next taker: as much as all receivers may hold. Released buffers are not
 * freed soon: V8 does not count shared memory when it decides to collect its heap.
 */
const MAX_FREE_BYTES = 64 * 1024 * 1024;
/** A free buffer of up to this many times the size is used instead of a new one. */
const ROOMY = 16;
/** Limit on bytes in use. Readers that find it exceeded should take only what they need. */
const MUCH_BYTES = 48 * 1024 * 1024;

/** A buffer of the pool. */
interface Lent {
  readonly sizeBytes: number;
  users: number;
}

/**
 * Buffers that are used again after their last user is done.
 *
 * A buffer has users. The taker is the first user. Each slice that is passed on adds one. Each user gives the buffer
 * back when done. A buffer that is never given back, for example because its connection broke, is left to the garbage
 * collector.
 */
export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #lent = new WeakMap<ArrayBufferLike, Lent>();
  #freeBytes = 0;
  #usedBytes = 0;
  readonly #collected = new FinalizationRegistry(({ sizeBytes, users }: Lent) => {
    if (users > 0) this.#usedBytes -= sizeBytes;
  });

  /** True while so much is in use that a small slice should not keep a large buffer. */
  get isLendingMuch(): boolean {
    return this.#usedBytes > MUCH_BYTES;
  }

  /** Returns a buffer of at least `bytes` bytes with unknown contents. The taker is its only user. */
  take(bytes: number): Buffer {
    const sizeBytes = Math.max(SMALLEST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    const buffer = this.#takeFree(sizeBytes) ?? this.#make(sizeBytes);
    const lent = this.#lent.get(buffer.buffer)!;
    lent.users = 1;
    this.#usedBytes += lent.sizeBytes;
    return buffer;
  }

  /** Returns true for a slice of a buffer of the pool that is in use. */
  isLent(slice: Uint8Array): boolean {
    return (this.#lent.get(slice.buffer)?.users ?? 0) > 0;
  }

  /** Adds users to the buffer that a slice is part of. */
  lend(slice: Uint8Array, count: number): void {
    const lent = this.#lent.get(slice.buffer);
    if (lent !== undefined && lent.users > 0) lent.users += count;
  }

  /** Removes a user. After the last one, the buffer may be overwritten at any time. Ignores other buffers. */
  giveBack(slice: Uint8Array): void {
    const lent = this.#lent.get(slice.buffer);
    if (lent === undefined || lent.users === 0 || --lent.users > 0) return;
    const { sizeBytes } = lent;
    this.#usedBytes -= sizeBytes;
    if (this.#freeBytes + sizeBytes > MAX_FREE_BYTES) return;
    const list = this.#free.get(sizeBytes);
    const buffer = Buffer.from(slice.buffer);
    if (list === undefined) this.#free.set(sizeBytes, [buffer]);
    else list.push(buffer);
    this.#freeBytes += sizeBytes;
  }

  /** Takes the smallest free buffer that is large enough. */
  #takeFree(sizeBytes: number): Buffer | undefined {
    for (let roomy = sizeBytes; roomy <= ROOMY * sizeBytes; roomy *= 2) {
      const buffer = this.#free.get(roomy)?.pop();
      if (buffer === undefined) continue;
      this.#freeBytes -= roomy;
      return buffer;
    }
    return undefined;
  }

  /** Makes a buffer in shared memory, so that another thread can hash and write its bytes in place. */
  #make(sizeBytes: number): Buffer {
    const buffer = Buffer.from(new SharedArrayBuffer(sizeBytes));
    const lent = { sizeBytes, users: 0 };
    this.#lent.set(buffer.buffer, lent);
    this.#collected.register(buffer.buffer, lent);
    return buffer;
  }
}
