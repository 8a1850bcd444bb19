/**
 * Buffers for payload, used again as soon as everybody is done with them. If each sent megabyte were a new allocation,
 * V8 would collect its whole heap about fifteen times a second: a quarter of a seeder's time.
 *
 * A buffer has users. The taker is the first; each slice that is passed on adds one, and each user gives it back when
 * done. A buffer that is never given back (its connection broke) is left to the garbage collector.
 *
 * A user of a slice keeps its whole buffer in use: while much is in use ({@link isLendingMuch}), readers do without.
 */

const SMALLEST_BYTES = 16 * 1024;
/** Limit on unused bytes that are kept for the next taker. */
const MAX_FREE_BYTES = 40 * 1024 * 1024;

/** Bytes in use from which readers should take no more than they need. */
const MUCH_BYTES = 48 * 1024 * 1024;

const free = new Map<number, Buffer[]>();
let freeBytes = 0;
const users = new WeakMap<ArrayBufferLike, number>();
let usedBytes = 0;
const collected = new FinalizationRegistry((bytes: number) => (usedBytes -= bytes));

/** Returns a buffer of at least `bytes` bytes with unknown contents. The taker is its only user. */
export function takeBuffer(bytes: number): Buffer {
  const sizeBytes = Math.max(SMALLEST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
  let buffer = free.get(sizeBytes)?.pop();
  // Shared, so that another thread can hash them in place.
  if (buffer === undefined) buffer = Buffer.from(new SharedArrayBuffer(sizeBytes));
  else freeBytes -= sizeBytes;
  users.set(buffer.buffer, 1);
  usedBytes += sizeBytes;
  collected.register(buffer.buffer, sizeBytes, buffer.buffer);
  return buffer;
}

/** Returns true while so much is in use that a slice should not hold a longer buffer. */
export function isLendingMuch(): boolean {
  return usedBytes > MUCH_BYTES;
}

/** Adds users to the buffer of a slice. */
export function lend(slice: Uint8Array, count = 1): void {
  const before = users.get(slice.buffer);
  if (before !== undefined) users.set(slice.buffer, before + count);
}

/** Removes a user. After the last one, the buffer may be overwritten at any time. Ignores other buffers. */
export function giveBack(slice: Uint8Array): void {
  const before = users.get(slice.buffer);
  if (before === undefined) return;
  if (before > 1) {
    users.set(slice.buffer, before - 1);
    return;
  }
  users.delete(slice.buffer);
  const { byteLength } = slice.buffer;
  usedBytes -= byteLength;
  collected.unregister(slice.buffer);
  if (freeBytes + byteLength > MAX_FREE_BYTES) return;
  const list = free.get(byteLength);
  const buffer = Buffer.from(slice.buffer);
  if (list === undefined) free.set(byteLength, [buffer]);
  else list.push(buffer);
  freeBytes += byteLength;
}
