/**
 * Buffers for payload that are used again after their last user is done. A new allocation for each sent megabyte would
 * make V8 collect its whole heap about fifteen times a second: a quarter of a seeder's time.
 *
 * A buffer has users. The taker is the first user. Each slice that is passed on adds one. Each user gives the buffer
 * back when done. A buffer that is never given back, for example because its connection broke, is left to the garbage
 * collector.
 *
 * A user of a slice keeps the whole buffer in use. While much is in use ({@link isLendingMuch}), readers should take
 * smaller buffers.
 */

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

/** A buffer that was made here. */
interface Lent {
  readonly sizeBytes: number;
  users: number;
}

// One pool a process: sockets, disks and members lend each other's slices, and a slice knows no owner, only its buffer.
const free = new Map<number, Buffer[]>();
let freeBytes = 0;
const lentOf = new WeakMap<ArrayBufferLike, Lent>();
let usedBytes = 0;
const collected = new FinalizationRegistry(({ sizeBytes, users }: Lent) => {
  if (users > 0) usedBytes -= sizeBytes;
});

/** Returns a buffer of at least `bytes` bytes with unknown contents. The taker is its only user. */
export function takeBuffer(bytes: number): Buffer {
  const sizeBytes = Math.max(SMALLEST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
  const buffer = takeFree(sizeBytes) ?? makeBuffer(sizeBytes);
  const lent = lentOf.get(buffer.buffer)!;
  lent.users = 1;
  usedBytes += lent.sizeBytes;
  return buffer;
}

/** Takes the smallest free buffer that is large enough. */
function takeFree(sizeBytes: number): Buffer | undefined {
  for (let roomy = sizeBytes; roomy <= ROOMY * sizeBytes; roomy *= 2) {
    const buffer = free.get(roomy)?.pop();
    if (buffer === undefined) continue;
    freeBytes -= roomy;
    return buffer;
  }
  return undefined;
}

/** Returns true while so much is in use that a small slice should not keep a large buffer. */
export function isLendingMuch(): boolean {
  return usedBytes > MUCH_BYTES;
}

/** Adds users to the buffer that a slice is part of. */
export function lend(slice: Uint8Array, count = 1): void {
  const lent = lentOf.get(slice.buffer);
  if (lent !== undefined && lent.users > 0) lent.users += count;
}

/** Removes a user. After the last one, the buffer may be overwritten at any time. Ignores other buffers. */
export function giveBack(slice: Uint8Array): void {
  const lent = lentOf.get(slice.buffer);
  if (lent === undefined || lent.users === 0 || --lent.users > 0) return;
  const { sizeBytes } = lent;
  usedBytes -= sizeBytes;
  if (freeBytes + sizeBytes > MAX_FREE_BYTES) return;
  const list = free.get(sizeBytes);
  const buffer = Buffer.from(slice.buffer);
  if (list === undefined) free.set(sizeBytes, [buffer]);
  else list.push(buffer);
  freeBytes += sizeBytes;
}

/**
 * Copies bytes into a lent buffer. Does not use `set`, as Node does for whole views: it takes ten times as long, since
 * V8 copies byte by byte between shared memory and an odd address.
 */
export function copyInto(target: Uint8Array, { buffer, byteOffset, length }: Uint8Array, offset: number): void {
  Buffer.from(buffer).copy(target, offset, byteOffset, byteOffset + length);
}

/** Makes a buffer in shared memory, so that another thread can hash and write its bytes in place. */
function makeBuffer(sizeBytes: number): Buffer {
  const buffer = Buffer.from(new SharedArrayBuffer(sizeBytes));
  const lent = { sizeBytes, users: 0 };
  lentOf.set(buffer.buffer, lent);
  collected.register(buffer.buffer, lent);
  return buffer;
}
