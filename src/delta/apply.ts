import { open, type FileHandle } from 'node:fs/promises';
import { constants, createZstdDecompress } from 'node:zlib';
import {
  assertPart,
  decodeHeader,
  hasHeaders,
  HEADER_BYTES,
  malformed,
  WINDOW_BYTES,
  type PartHeader,
} from './format.ts';
import { ForwardWindow } from './forward-window.ts';

/** The window of a frame is at most its part: 16 MiB. A larger one would be allocated before there is any data. */
const MAX_WINDOW_LOG = 24;
const CHUNK_BYTES = 256 * 1024;

/** A base, as its NAR. */
export interface Base {
  readonly narSize: number;
  readonly nar: AsyncIterable<Buffer>;
}

/**
 * Yields the NAR that a patch makes out of its base: never more than `narSize` bytes, and exactly these if it does not
 * throw. They are not checked otherwise.
 *
 * @throws HASH_MISMATCH if the patch is malformed, is for another base, or gives another number of bytes; errors of the
 *   base; the signal's reason
 */
export async function* applyPatch(
  path: string,
  base: Base,
  { narSize, signal }: { readonly narSize: number; readonly signal: AbortSignal },
): AsyncGenerator<Buffer> {
  await using patch = await open(path, 'r');
  const { size } = await patch.stat();
  const windows = new ForwardWindow(base.nar, Math.min(base.narSize, WINDOW_BYTES));
  try {
    let at = 0;
    for (let left = narSize; left > 0;) {
      signal.throwIfAborted();
      const part = await partAt(patch, at, { narBytes: left, baseSize: base.narSize, narSize, size });
      const frame = await read(patch, part.at, part.frameBytes);
      yield* decode(frame, await windows.read(part.baseOffset, part.baseBytes), part.narBytes, signal);
      at = part.at + part.frameBytes;
      left -= part.narBytes;
    }
    if (at < size) throw malformed('it goes on behind its last part');
  } finally {
    await windows.close();
  }
}

/** Returns the part whose header, or frame, begins at an offset of the patch, and where its frame begins. */
async function partAt(
  patch: FileHandle,
  at: number,
  left: { readonly narBytes: number; readonly baseSize: number; readonly narSize: number; readonly size: number },
): Promise<PartHeader & { readonly at: number }> {
  const { narBytes, baseSize, narSize, size } = left;
  if (hasHeaders(narSize, baseSize)) {
    const header = decodeHeader(await read(patch, at, HEADER_BYTES), left);
    return { ...header, at: at + HEADER_BYTES };
  }
  const whole = { baseOffset: 0, baseBytes: baseSize, narBytes, frameBytes: size - at, at };
  assertPart(whole, left);
  return whole;
}

/** @throws HASH_MISMATCH if the patch ends before */
async function read(patch: FileHandle, at: number, bytes: number): Promise<Buffer> {
  const { bytesRead, buffer } = await patch.read(Buffer.allocUnsafeSlow(bytes), 0, bytes, at);
  if (bytesRead < bytes) throw malformed('it ends too early');
  return buffer;
}

/** Yields the bytes of a frame: `narBytes`, or it throws. */
async function* decode(
  frame: Buffer,
  dictionary: Buffer,
  narBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const params = { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };
  let left = narBytes;
  try {
    const decoder = createZstdDecompress({ params, dictionary, chunkSize: CHUNK_BYTES });
    decoder.end(frame);
    for await (const chunk of decoder as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      left -= chunk.length;
      if (left < 0) throw new Error('a frame has more bytes than its part');
      yield chunk;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw malformed((error as Error).message, error);
  }
  if (left > 0) throw malformed('a frame has fewer bytes than its part');
}
