/**
 * The format of a patch, version 1: what `zstd --patch-from` writes, in parts.
 *
 * A patch makes a NAR out of another one, its base. The NAR is cut into parts of {@link PART_BYTES}. Each part is a zstd
 * frame (RFC 8878) whose dictionary is a window of the base, as raw content: at most {@link WINDOW_BYTES}. The windows of
 * later parts never begin before those of earlier ones, so that the base is read once, from its beginning. A frame
 * needs no window of its own beyond its part. So a decoder takes at most {@link WINDOW_BYTES} twice and {@link PART_BYTES}
 * once, whatever the sizes of the NARs are.
 *
 * Before each frame is a skippable frame (RFC 8878, section 3.1.2) with the magic number 0x184D2A5D and 20 bytes, in
 * little-endian order:
 *
 *     8 bytes  offset of the window in the base
 *     4 bytes  bytes of the window
 *     4 bytes  bytes of the part: {@link PART_BYTES}, or what is left. Each part costs a new decoder with its window
 *     4 bytes  bytes of the frame
 *
 * It is left out if one frame is the whole patch and its window the whole base: then `zstd -d --patch-from=BASE` decodes
 * the patch.
 */
import { NarswarmError } from '../errors.ts';

const MIB = 1024 * 1024;
/** Most bytes of a NAR in one frame. */
export const PART_BYTES = 16 * MIB;
/** Most bytes of the base that one frame refers to. */
export const WINDOW_BYTES = 32 * MIB;
/** zstd stores incompressible blocks of 128 KiB as they are, with 3 bytes more for each. */
const MAX_FRAME_BYTES = PART_BYTES + MIB;

const MAGIC = 0x184d2a5d;
const FACTS_BYTES = 20;
export const HEADER_BYTES = 8 + FACTS_BYTES;

/** A part of a NAR, and the window of the base that it is made with. */
export interface Part {
  readonly baseOffset: number;
  readonly baseBytes: number;
  readonly narBytes: number;
}

/** A part with its frame. */
export interface PartHeader extends Part {
  readonly frameBytes: number;
}

/** Cuts a NAR into parts. The middle of each part is at the same place of the NAR as the middle of its window is of the base. */
export function partsOf(narSize: number, baseSize: number): Part[] {
  const baseBytes = Math.min(baseSize, WINDOW_BYTES);
  const parts: Part[] = [];
  for (let at = 0; at < narSize; at += PART_BYTES) {
    const narBytes = Math.min(PART_BYTES, narSize - at);
    const middle = ((at + narBytes / 2) / narSize) * baseSize;
    const baseOffset = Math.floor(Math.min(Math.max(0, middle - baseBytes / 2), baseSize - baseBytes));
    parts.push({ baseOffset, baseBytes, narBytes });
  }
  return parts;
}

/** Returns true if the frames of a patch have headers: it has several, or a window that is not the whole base. */
export function hasHeaders(narSize: number, baseSize: number): boolean {
  return narSize > PART_BYTES || baseSize > WINDOW_BYTES;
}

export function encodeHeader({ baseOffset, baseBytes, narBytes, frameBytes }: PartHeader): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(FACTS_BYTES, 4);
  header.writeBigUInt64LE(BigInt(baseOffset), 8);
  for (const [index, value] of [baseBytes, narBytes, frameBytes].entries()) header.writeUInt32LE(value, 16 + 4 * index);
  return header;
}

/**
 * Reads a header.
 *
 * @param left bytes of the NAR that are still to come, and bytes of the base
 * @throws HASH_MISMATCH if it is none, or asks for more than the format allows
 */
export function decodeHeader(
  bytes: Buffer,
  left: { readonly narBytes: number; readonly baseSize: number },
): PartHeader {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(4) !== FACTS_BYTES)
    throw malformed('a part of it has no header');
  const header: PartHeader = {
    baseOffset: Number(bytes.readBigUInt64LE(8)),
    baseBytes: bytes.readUInt32LE(16),
    narBytes: bytes.readUInt32LE(20),
    frameBytes: bytes.readUInt32LE(24),
  };
  assertPart(header, left);
  return header;
}

/** @throws HASH_MISMATCH as {@link decodeHeader} */
export function assertPart(part: PartHeader, left: { readonly narBytes: number; readonly baseSize: number }): void {
  const { baseOffset, baseBytes, narBytes, frameBytes } = part;
  if (narBytes !== Math.min(PART_BYTES, left.narBytes))
    throw malformed(`a part of it has ${narBytes} bytes, of ${left.narBytes} that are left`);
  if (baseBytes > WINDOW_BYTES || baseOffset + baseBytes > left.baseSize)
    throw malformed(`a window of it is not in the base of ${left.baseSize} bytes, or too large`);
  if (frameBytes > MAX_FRAME_BYTES) throw malformed(`a frame of it has ${frameBytes} bytes`);
}

/** Makes the error of a patch that does not give the NAR. */
export function malformed(reason: string, cause?: unknown): NarswarmError {
  return new NarswarmError('HASH_MISMATCH', `the patch is wrong: ${reason}`, cause === undefined ? {} : { cause });
}
