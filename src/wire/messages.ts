/** Encodes messages of the peer protocol (BEP 3, 6, 10). */
import { KIND, LENGTH_BYTES } from './protocol.ts';

type Kind = (typeof KIND)[keyof typeof KIND];

/** Encodes a message that has only numbers. */
export function message(kind: Kind, ...numbers: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES + 1 + 4 * numbers.length);
  bytes.writeUInt32BE(bytes.length - LENGTH_BYTES, 0);
  bytes[LENGTH_BYTES] = kind;
  for (const [at, number] of numbers.entries()) bytes.writeUInt32BE(number, LENGTH_BYTES + 1 + 4 * at);
  return bytes;
}

/** Bytes of PIECE before its block: length, kind, index, offset. */
export const PIECE_HEAD_BYTES = LENGTH_BYTES + 9;

/** Writes the head of PIECE for a block. @returns the offset of the block */
export function writePieceHead(
  target: Buffer,
  at: number,
  { index, offset, length }: { readonly index: number; readonly offset: number; readonly length: number },
): number {
  target.writeUInt32BE(PIECE_HEAD_BYTES - LENGTH_BYTES + length, at);
  target[at + LENGTH_BYTES] = KIND.PIECE;
  target.writeUInt32BE(index, at + LENGTH_BYTES + 1);
  target.writeUInt32BE(offset, at + LENGTH_BYTES + 5);
  return at + PIECE_HEAD_BYTES;
}

/** Encodes PIECE with a block. */
export function pieceMessage(index: number, offset: number, block: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(PIECE_HEAD_BYTES);
  writePieceHead(head, 0, { index, offset, length: block.length });
  return Buffer.concat([head, block]);
}

/** Encodes a message of an extension (BEP 10); id 0 is the handshake. */
export function extendedMessage(id: number, payload: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(LENGTH_BYTES + 2);
  head.writeUInt32BE(2 + payload.length, 0);
  head[LENGTH_BYTES] = KIND.EXTENDED;
  head[LENGTH_BYTES + 1] = id;
  return Buffer.concat([head, payload]);
}
