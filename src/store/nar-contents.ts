import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { NarswarmError } from '../errors.ts';
import type { NarHash } from '../nix/brands.ts';
import { compressionOf, markedCompression, MAGIC_BYTES, type Compression } from '../nix/compression.ts';
import { narHashOf } from '../nix/hash.ts';
import { readZstdFrames } from './zstd-frames.ts';

/** Node has no decoder for these; the tools are on every machine that runs Nix, but for the last two. */
const PROGRAMS: Readonly<Partial<Record<Compression, readonly [program: string, ...args: string[]]>>> = {
  xz: ['xz'],
  lzma: ['xz', '--format=lzma'],
  bzip2: ['bzip2'],
  lzip: ['lzip'],
  lz4: ['lz4'],
};

/** What may follow a NAR in its file: Nix reads no further than to the end of the NAR, and some tools pad. */
const MAX_TRAILER_BYTES = 64 * 1024;

/** Contents of a NAR file. */
export interface NarContentsFound {
  /** SHA-256 of the first NarSize bytes: what follows them is no part of the NAR, as in Nix. */
  readonly narHash: NarHash;
  /** Bytes that were hashed: NarSize, or less if there is less. */
  readonly narSize: number;
  /** How it is compressed, whatever its narinfo says. */
  readonly compression: Compression;
}

/**
 * Decompresses a NAR file and gives the SHA-256 of what comes out: what the signature of a narinfo is about.
 *
 * @param label `Compression` of the narinfo, which counts as much as it does in Nix ({@link compressionOf})
 * @param maxBytes NarSize: output that goes more than 64 KiB beyond it is refused, however little there was to read
 * @param onBytes called with what is hashed, piece by piece
 * @throws HASH_MISMATCH where the file does not decompress to at most that much, with the decoder's error as its cause and
 *   `facts.program` where that is one that has to be installed
 */
export async function hashContents(
  path: string,
  label: string,
  maxBytes: number,
  signal?: AbortSignal,
  onBytes?: (bytes: Buffer) => void,
): Promise<NarContentsFound> {
  const sha256 = createHash('sha256');
  let narSize = 0;
  let trailerBytes = 0;
  const compression = compressionOf(label, await headOf(path));
  try {
    for await (const chunk of await decompress(path, compression, signal)) {
      const bytes = (chunk as Buffer).subarray(0, maxBytes - narSize);
      narSize += bytes.length;
      trailerBytes += (chunk as Buffer).length - bytes.length;
      if (trailerBytes > MAX_TRAILER_BYTES)
        throw new Error(`it holds more than the ${maxBytes} bytes that were signed`);
      sha256.update(bytes);
      onBytes?.(bytes);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw new NarswarmError(
      'HASH_MISMATCH',
      `${path} is not a ${compression} file with the signed contents: ${(error as Error).message}`,
      { cause: error, facts: { path, program: PROGRAMS[compression]?.[0] } },
    );
  }
  return { narHash: narHashOf(sha256.digest()), narSize, compression };
}

/** How a file is compressed that bears a mark of it, as {@link markedCompression}; undefined where there is no such file. */
export async function compressionOfFile(path: string, label: string): Promise<Compression | undefined> {
  return markedCompression(label, await headOf(path));
}

async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r').catch(() => undefined); // reading all of it says why
  const head = await file?.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0).finally(() => file.close());
  return head === undefined ? new Uint8Array() : head.buffer.subarray(0, head.bytesRead);
}

async function decompress(
  path: string,
  compression: Compression,
  signal: AbortSignal | undefined,
): Promise<AsyncIterable<unknown>> {
  const file = (): Readable =>
    createReadStream(path, { highWaterMark: 1 << 20, ...(signal === undefined ? {} : { signal }) });
  switch (compression) {
    case 'none':
      return file();
    case 'zstd':
      return readZstdFrames(path, signal);
    case 'gzip':
      return through(file(), createGunzip());
    case 'br':
      return through(file(), createBrotliDecompress());
    default: {
      const [program = '', ...args] = PROGRAMS[compression] ?? [];
      const { execa } = await import('execa'); // 20 ms, which a fetch of sized NARs need not wait for
      return execa(program, [...args, '-dc', path], {
        buffer: false,
        stdin: 'ignore',
        stderr: 'ignore',
        ...(signal === undefined ? {} : { cancelSignal: signal }),
      }).readable();
    }
  }
}

function through(from: Readable, decoder: NodeJS.ReadWriteStream & Readable): Readable {
  from.on('error', (error) => decoder.destroy(error));
  decoder.on('close', () => from.destroy());
  from.pipe(decoder);
  return decoder;
}
