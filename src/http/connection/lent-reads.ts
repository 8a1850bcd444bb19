/** Connections that read into lent buffers. Node would allocate 64 KiB for each read, and collect them all the time. */
import { connect, type Socket } from 'node:net';
import { giveBack, isLendingMuch, takeBuffer } from '../../bytes/lent-buffers.ts';

const FEWEST_BYTES = 64 * 1024;
const MOST_BYTES = 512 * 1024;
/** A rest of a block that is smaller is not used. */
const SMALL_REST_BYTES = 16 * 1024;
/** If reads follow each other within this time, and fill their buffer, the next one gets a larger buffer. */
const QUICK_MS = 20;

/**
 * Connects to an address. The socket emits each read as `data`, like others. But the bytes are a slice of a lent buffer:
 * to keep them, call `lend`. Bytes that follow each other in the stream do so in a buffer, until it is full.
 */
export function connectLent(address: { readonly host: string; readonly port: number }): Socket {
  const reads = new LentReads();
  const socket = connect({
    ...address,
    onread: {
      buffer: () => reads.next(),
      callback: (bytes) => {
        socket.emit('data', reads.take(bytes));
        return true;
      },
    },
  });
  socket.once('close', () => reads.end());
  return socket;
}

/** The blocks that one connection reads into. */
class LentReads {
  #block: Buffer | undefined;
  #at = 0;
  #offeredBytes = FEWEST_BYTES;
  #lastAtMs = 0;

  /** Returns the place of the next read. */
  next(): Buffer {
    if (this.#block === undefined || this.#block.length - this.#at < SMALL_REST_BYTES) {
      this.end();
      this.#block = takeBuffer(isLendingMuch() ? FEWEST_BYTES : this.#offeredBytes);
    }
    return this.#block.subarray(this.#at, this.#at + this.#offeredBytes);
  }

  /** Returns the bytes of a read. */
  take(bytes: number): Buffer {
    const nowMs = performance.now();
    const isQuick = nowMs - this.#lastAtMs < QUICK_MS;
    this.#lastAtMs = nowMs;
    const from = this.#at;
    this.#at += bytes;
    if (!isQuick) this.#offeredBytes = FEWEST_BYTES;
    else if (bytes >= FEWEST_BYTES / 2) this.#offeredBytes = Math.min(MOST_BYTES, 2 * this.#offeredBytes);
    return this.#block!.subarray(from, this.#at);
  }

  end(): void {
    if (this.#block !== undefined) giveBack(this.#block);
    this.#block = undefined;
    this.#at = 0;
  }
}
