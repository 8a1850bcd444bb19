import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createZstdDecompress } from 'node:zlib';

/** Magic numbers of frames without contents (RFC 8878, section 3.1.2). */
const SKIPPABLE_MIN = 0x184d2a50;
const SKIPPABLE_MAX = 0x184d2a5f;
/** Bytes of a skippable frame before its contents: magic number and length. */
const SKIPPABLE_HEADER_BYTES = 8;
/**
 * Average frame size below which a file is refused, since each frame takes its own decoder. Programs write frames of
 * 128 KiB and more.
 */
const MIN_FRAME_BYTES = 512;
const FREE_FRAMES = 64;

/**
 * Decompresses a zstd file frame by frame. pzstd and `cat` make files of several frames, but Node's decoder stops after
 * the first.
 *
 * @throws errors of Node's decoder; an Error for a file of very many frames; the signal's reason
 */
export async function* readZstdFrames(path: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const header = Buffer.alloc(SKIPPABLE_HEADER_BYTES);
    let frames = 0;
    for (let at = 0; at < size;) {
      signal?.throwIfAborted();
      if (++frames > FREE_FRAMES + at / MIN_FRAME_BYTES) throw new Error('it has too many frames');
      const { bytesRead } = await handle.read(header, 0, header.length, at);
      const magic = bytesRead < header.length ? 0 : header.readUInt32LE(0);
      if (magic >= SKIPPABLE_MIN && magic <= SKIPPABLE_MAX) {
        at += SKIPPABLE_HEADER_BYTES + header.readUInt32LE(4);
        continue;
      }
      const decoder = createZstdDecompress().on('error', ignore); // also errors of bytes after the frame
      const file = createReadStream(path, { start: at, highWaterMark: 1 << 20, ...(signal && { signal }) });
      file.on('error', (error) => decoder.destroy(error));
      decoder.on('close', () => file.destroy());
      file.pipe(decoder);
      yield* decoder as AsyncIterable<Buffer>;
      if (decoder.bytesWritten === 0) throw new Error('a frame without bytes');
      at += decoder.bytesWritten;
    }
  } finally {
    await handle.close();
  }
}

function ignore(): void {
  // The loop over the decoder throws errors of the frame.
}
