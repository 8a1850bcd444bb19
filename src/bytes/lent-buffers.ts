/**
 * The buffers for payload of this process. A new allocation for each sent megabyte would make V8 collect its whole heap
 * about fifteen times a second: a quarter of a seeder's time.
 *
 * A user of a slice keeps the whole buffer in use. While much is in use ({@link isLendingMuch}), readers should take
 * smaller buffers.
 */
import { BufferPool } from './buffer-pool.ts';

// One pool a process: sockets, disks and members lend each other's slices, and a slice knows no owner, only its buffer.
const pool = new BufferPool();

/** Returns a buffer of at least `bytes` bytes with unknown contents. The taker is its only user. */
export function takeBuffer(bytes: number): Buffer {
  return pool.take(bytes);
}

/** Returns true while so much is in use that a small slice should not keep a large buffer. */
export function isLendingMuch(): boolean {
  return pool.isLendingMuch;
}

/** Returns true for a slice of a lent buffer. */
export function isLent(slice: Uint8Array): boolean {
  return pool.isLent(slice);
}

/** Adds users to the buffer that a slice is part of. */
export function lend(slice: Uint8Array, count = 1): void {
  pool.lend(slice, count);
}

/** Removes a user. After the last one, the buffer may be overwritten at any time. Ignores other buffers. */
export function giveBack(slice: Uint8Array): void {
  pool.giveBack(slice);
}

/**
 * Copies bytes into a lent buffer. Does not use `set`, as Node does for whole views: it takes ten times as long, since
 * V8 copies byte by byte between shared memory and an odd address.
 */
export function copyInto(target: Uint8Array, { buffer, byteOffset, length }: Uint8Array, offset: number): void {
  Buffer.from(buffer).copy(target, offset, byteOffset, byteOffset + length);
}
