import { giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { PIECE_HEAD_BYTES, writePieceHead } from './messages.ts';

/** A block of a piece. */
export interface Block {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

/** Fills the targets, one after another, with the bytes from a block on. Rejects if they cannot be read. */
export type ReadBlocks = (targets: readonly Uint8Array[], first: Block) => Promise<void>;

/**
 * Reads adjacent blocks of the torrent into the PIECE messages in which they are sent, with one call. A large NAR has
 * thousands of blocks of 16 KiB, and a call or a buffer for each costs as much as copying one.
 *
 * @returns the messages, in a lent buffer
 */
export async function readPieceMessages(blocks: readonly Block[], read: ReadBlocks): Promise<Buffer> {
  const [first] = blocks;
  if (first === undefined) return Buffer.alloc(0);
  const bytes = blocks.reduce((sum, { length }) => sum + PIECE_HEAD_BYTES + length, 0);
  const buffer = takeBuffer(bytes);
  let end = 0;
  const targets = blocks.map(({ index, offset, length }) => {
    const begin = writePieceHead(buffer, end, { index, offset, length });
    end = begin + length;
    return buffer.subarray(begin, end);
  });
  try {
    await read(targets, first);
  } catch (error) {
    giveBack(buffer);
    throw error;
  }
  return buffer.subarray(0, bytes);
}
