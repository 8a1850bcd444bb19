import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { NarswarmError } from '../../errors.ts';
import type { NarHash } from '../../nix/brands.ts';
import { compressionOf, markedCompression, MAGIC_BYTES, type Compression } from '../../nix/compression.ts';
import { narHashOf } from '../../nix/hash.ts';
import { lowerPriority } from '../lower-priority.ts';
import { readZstdFrames } from '../decoding/zstd-frames.ts';

/** Programs for compressions that Node has no decoder for. Every machine with Nix has them, except for the last two. */
const PROGRAMS: Readonly<Partial<Record<Compression, readonly [program: string, ...args: string[]]>>> = {
  xz: ['xz'],
  lzma: ['xz', '--format=lzma'],
  bzip2: ['bzip2'],
  lzip: ['lzip'],
  lz4: ['lz4'],
};

/** Limit on bytes after the NAR in its file. Nix does not read them, and some tools add padding. */
const MAX_TRAILER_BYTES = 64 * 1024;

/** Contents of a NAR file. */
export interface NarContentsFound {
  /** SHA-256 of the first NarSize bytes. As in Nix, the bytes after them do not belong to the NAR. */
  readonly narHash: NarHash;
  /** Number of hashed bytes: NarSize, or less if there are fewer. */
  readonly narSize: number;
  /** The actual compression. Its narinfo may name another one. */
  readonly compression: Compression;
}

export interface HashingOptions {
  /** Called with each chunk that is hashed. */
  readonly onBytes?: (bytes: Buffer) => void;
  /** Nice value of the program that decompresses, if one is needed. Default: that of this thread. */
  readonly nice?: number | undefined;
}

/**
 * Decompresses a NAR file and computes the SHA-256 of the contents, which a narinfo's signature covers.
 *
 * @param label `Compression` of the narinfo, believed as far as Nix does ({@link compressionOf})
 * @param maxBytes NarSize. Refuses output of more than 64 KiB above it, however small the file
 * @throws HASH_MISMATCH if the file does not decompress to at most that size. Its cause is the decoder's error.
 *   `facts.program` names the program to install, if one is missing
 */
export async function hashContents(
  path: string,
  label: string,
  maxBytes: number,
  signal?: AbortSignal,
  { onBytes, nice }: HashingOptions = {},
): Promise<NarContentsFound> {
  const sha256 = createHash('sha256');
  let narSize = 0;
  const compression = compressionOf(label, await headOf(path));
  for await (const bytes of contentsOf(path, compression, maxBytes, signal, nice)) {
    narSize += bytes.length;
    sha256.update(bytes);
    onBytes?.(bytes);
  }
  return { narHash: narHashOf(sha256.digest()), narSize, compression };
}

/**
 * Yields the decompressed contents of a NAR file: NarSize bytes. They are not checked otherwise.
 *
 * @param label as for {@link hashContents}
 * @throws HASH_MISMATCH as {@link hashContents}, and for fewer bytes
 */
export async function* readContents(
  path: string,
  label: string,
  narSize: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let left = narSize;
  for await (const bytes of contentsOf(path, compressionOf(label, await headOf(path)), narSize, signal)) {
    left -= bytes.length;
    yield bytes;
  }
  if (left > 0)
    throw new NarswarmError('HASH_MISMATCH', `${path} holds ${left} bytes less than were signed`, { facts: { path } });
}

async function* contentsOf(
  path: string,
  compression: Compression,
  maxBytes: number,
  signal: AbortSignal | undefined,
  nice?: number,
): AsyncGenerator<Buffer> {
  let left = maxBytes;
  let trailerBytes = 0;
  try {
    for await (const chunk of await decompress(path, compression, signal, nice)) {
      const bytes = (chunk as Buffer).subarray(0, left);
      left -= bytes.length;
      trailerBytes += (chunk as Buffer).length - bytes.length;
      if (trailerBytes > MAX_TRAILER_BYTES)
        throw new Error(`it holds more than the ${maxBytes} bytes that were signed`);
      yield bytes;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw new NarswarmError(
      'HASH_MISMATCH',
      `${path} is not a ${compression} file with the signed contents: ${(error as Error).message}`,
      { cause: error, facts: { path, program: PROGRAMS[compression]?.[0] } },
    );
  }
}

/**
 * Returns the compression of a file by its magic number, as {@link markedCompression}. Undefined if there is no such
 * file.
 */
export async function compressionOfFile(path: string, label: string): Promise<Compression | undefined> {
  return markedCompression(label, await headOf(path));
}

async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r').catch(() => undefined); // reading the whole file reports the reason
  const head = await file?.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0).finally(() => file.close());
  return head === undefined ? new Uint8Array() : head.buffer.subarray(0, head.bytesRead);
}

async function decompress(
  path: string,
  compression: Compression,
  signal: AbortSignal | undefined,
  nice: number | undefined,
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
      return outputOf(program, [...args, '-dc', path], signal, nice);
    }
  }
}

/** Runs a program. @throws if it fails or cannot be started */
async function* outputOf(
  program: string,
  args: readonly string[],
  signal: AbortSignal | undefined,
  nice = 0,
): AsyncGenerator<Uint8Array> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'ignore'],
    ...(signal === undefined ? {} : { signal }),
  });
  const end = once(child, 'close');
  end.catch(() => undefined); // the output ends, too
  if (nice > 0 && child.pid !== undefined) lowerPriority(child.pid, nice);
  try {
    yield* child.stdout;
    const [status] = await end;
    if (status !== 0) throw new Error(`${program} failed with exit status ${status}`);
  } finally {
    child.kill();
  }
}

function through(from: Readable, decoder: NodeJS.ReadWriteStream & Readable): Readable {
  from.on('error', (error) => decoder.destroy(error));
  decoder.on('close', () => from.destroy());
  from.pipe(decoder);
  return decoder;
}
