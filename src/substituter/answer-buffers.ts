import type { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { giveBack, isLendingMuch, takeBuffer } from '../bytes/lent-buffers.ts';

/** Bytes of a whole chunk: more than a socket takes before it asks to wait (64 KiB). */
export const CHUNK_BYTES = 256 * 1024;
/** The same while many answers are on their way. */
const FEW_BYTES = 64 * 1024;
/** One is being sent, one waits in the stream, and one is being filled. */
const COUNT = 3;

/** Returns a buffer for the next chunk, of at most {@link CHUNK_BYTES}. */
export type TakeChunk = (bytes: number) => Buffer;

/** Returns the bytes of the next whole chunk: hundreds of clients would take hundreds of megabytes otherwise. */
export function chunkBytes(): number {
  return isLendingMuch() ? FEW_BYTES : CHUNK_BYTES;
}

/** Takes a new buffer for each chunk. */
export const newChunk: TakeChunk = (bytes) => Buffer.allocUnsafe(bytes);

/**
 * Returns the stream of an answer. Its whole chunks take turns in three lent buffers: with a new buffer for each, V8 would
 * collect its whole heap again and again, which took two thirds of the processor time.
 *
 * @param bytesIn yields the chunks, each in a buffer that it has taken. It must not use a buffer after it has ended
 */
export function answerStream(response: ServerResponse, bytesIn: (take: TakeChunk) => AsyncGenerator<Buffer>): Readable {
  const taken: Buffer[] = [];
  let count = 0;
  const take: TakeChunk = (bytes) => {
    if (bytes < CHUNK_BYTES) return newChunk(bytes); // a socket takes several of them at once
    return (taken[count++ % COUNT] ??= takeBuffer(CHUNK_BYTES).subarray(0, CHUNK_BYTES));
  };
  // With this mark, the stream asks for a chunk only if at most one waits, and the socket has sent those before it.
  const stream = Readable.from(bytesIn(take), { objectMode: false, highWaterMark: 1 });
  // When the client leaves, a buffer may still be filled; when the last chunk is read, it is yet to be sent.
  void Promise.all([closed(stream), closed(response)]).then(() => taken.splice(0).forEach(giveBack));
  return stream;
}

/** Resolves once a stream is closed, also after an error. */
function closed(stream: EventEmitter): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve));
}
