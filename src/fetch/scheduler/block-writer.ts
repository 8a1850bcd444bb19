import { copyInto, giveBack, isLent, lend, takeBuffer } from '../../bytes/lent-buffers.ts';
import type { SharedNar } from './shared-nar.ts';

const BLOCK_BYTES = 512 * 1024;
/** Age of a block after which the next chunk is not gathered with others. */
const BLOCK_MS = 1_000;
/** A smaller chunk is copied: it would keep a large buffer in use. */
const WORTH_KEEPING_BYTES = 32 * 1024;
/** Size of the buffers for copies. */
const ROOM_BYTES = 64 * 1024;

/** Adjacent bytes that wait to be written. The writer is a user of the buffer of each chunk. */
interface Block {
  readonly chunks: Uint8Array[];
  bytes: number;
  readonly beganAtMs: number;
}

/**
 * Gathers the chunks of a socket into writes of a useful size, one after another from an offset on. Keeps large lent
 * chunks, and copies others. Bytes of a slow source wait for about a second, since another source may have to continue
 * after them.
 *
 * While one block is written, the next one is gathered. {@link flush} or {@link drop} ends it.
 */
export class BlockWriter {
  readonly #nar: SharedNar;
  readonly #origin: string;
  #offset: number;
  #block: Block | undefined;
  /** A buffer for copies, and its used bytes. */
  #room: Buffer | undefined;
  #roomBytes = 0;
  /** The last write, until it has succeeded. Includes those before it. */
  #writing: Promise<void> | undefined;

  constructor(nar: SharedNar, offset: number, origin: string) {
    this.#nar = nar;
    this.#offset = offset;
    this.#origin = origin;
  }

  /**
   * Takes a chunk, which may be lent until this returns.
   *
   * @returns a promise if nothing more should come before it is resolved. It is rejected with the error of a write
   */
  write(chunk: Uint8Array): void | Promise<void> {
    const isKept = isLent(chunk) && chunk.length >= WORTH_KEEPING_BYTES;
    let before: Promise<void> | undefined;
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + BLOCK_BYTES - (this.#block?.bytes ?? 0));
      at += isKept ? this.#keep(part) : this.#copy(part);
      before = this.#writeFull() ?? before;
    }
    return before;
  }

  /** Writes all that was taken. @throws the error of a write */
  async flush(): Promise<void> {
    if (this.#block !== undefined) void this.#writeBlock(this.#block);
    this.#leaveRoom();
    await this.#writing;
  }

  /** Drops the bytes that are not being written yet, and waits for the others. */
  async drop(): Promise<void> {
    for (const chunk of this.#block?.chunks ?? []) giveBack(chunk);
    this.#block = undefined;
    this.#leaveRoom();
    await this.#writing?.catch(ignore);
  }

  /** Writes the block if it is full or old. @returns the write before it, if it runs or has failed */
  #writeFull(): Promise<void> | undefined {
    const block = this.#block;
    if (block === undefined) return undefined;
    const isDue = block.bytes === BLOCK_BYTES || performance.now() - block.beganAtMs > BLOCK_MS;
    return isDue ? this.#writeBlock(block) : undefined;
  }

  /** Gathers lent bytes. @returns how many */
  #keep(bytes: Uint8Array): number {
    lend(bytes);
    this.#gather(bytes);
    return bytes.length;
  }

  /** Gathers a copy of bytes. @returns how many found room */
  #copy(bytes: Uint8Array): number {
    if (this.#room === undefined || this.#roomBytes === ROOM_BYTES) {
      this.#leaveRoom();
      this.#room = takeBuffer(ROOM_BYTES);
    }
    const part = bytes.subarray(0, ROOM_BYTES - this.#roomBytes);
    copyInto(this.#room, part, this.#roomBytes);
    lend(this.#room);
    this.#gather(this.#room.subarray(this.#roomBytes, this.#roomBytes + part.length));
    this.#roomBytes += part.length;
    return part.length;
  }

  #leaveRoom(): void {
    if (this.#room !== undefined) giveBack(this.#room);
    this.#room = undefined;
    this.#roomBytes = 0;
  }

  /** Adds a chunk to the block. The writer is a user of its buffer. */
  #gather(chunk: Uint8Array): void {
    this.#block ??= { chunks: [], bytes: 0, beganAtMs: performance.now() };
    const { chunks } = this.#block;
    this.#block.bytes += chunk.length;
    const joined = joinAdjacent(chunks.at(-1), chunk);
    if (joined === undefined) {
      chunks.push(chunk);
      return;
    }
    chunks[chunks.length - 1] = joined;
    giveBack(chunk); // one user is enough
  }

  /** Begins to write the block. @returns the write before it, if it runs or has failed */
  #writeBlock({ chunks, bytes }: Block): Promise<void> | undefined {
    const before = this.#writing;
    const offset = this.#offset;
    this.#offset += bytes;
    this.#block = undefined;
    const writing = this.#writeAfter(before, offset, chunks).then(() => {
      if (this.#writing === writing) this.#writing = undefined;
    });
    writing.catch(ignore); // the next call reports it
    this.#writing = writing;
    return before;
  }

  async #writeAfter(before: Promise<void> | undefined, offset: number, chunks: readonly Uint8Array[]): Promise<void> {
    try {
      if (before !== undefined) await before; // after a failed write, a later one would leave a gap
      await this.#nar.write(offset, chunks, this.#origin);
    } finally {
      for (const chunk of chunks) giveBack(chunk);
    }
  }
}

/** Returns both as one slice if the second one follows the first one in its buffer. */
function joinAdjacent(first: Uint8Array | undefined, second: Uint8Array): Uint8Array | undefined {
  if (first === undefined || first.buffer !== second.buffer) return undefined;
  const { buffer, byteOffset, length } = first;
  return byteOffset + length === second.byteOffset
    ? Buffer.from(buffer, byteOffset, length + second.length)
    : undefined;
}

function ignore(): void {
  // flush reports it
}
