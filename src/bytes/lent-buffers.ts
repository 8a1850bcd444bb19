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
/**
 * Limit on unused bytes that are kept for the next taker: as much as all receivers may hold. V8 does not count shared
 * memory: what is let go of stays for as long as nothing else makes it collect its heap.
 */
const MAX_FREE_BYTES = 64 * 1024 * 1024;
/** A free buffer of up to so many times the size is used rather than a new one. */
const ROOMY = 16;

/** Bytes in use from which readers should take no more than they need. */
const MUCH_BYTES = 48 * 1024 * 1024;

/** A buffer that was made here. */
interface Lent {
  readonly sizeBytes: number;
  users: number;
}

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

/** Returns true while so much is in use that a slice should not hold a longer buffer. */
export function isLendingMuch(): boolean {
  return usedBytes > MUCH_BYTES;
}

/** Adds users to the buffer of a slice. */
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
 * Copies bytes into a lent buffer. `set`, which Node takes for the copy of a whole view, takes ten times as long: between
 * shared memory and an odd address, V8 copies byte by byte.
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
