import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib';
import { NarswarmError } from '../errors.ts';
import type { NarHash } from '../nix/brands.ts';
import { compressionOf, MAGIC_BYTES, type Compression } from '../nix/compression.ts';
import { narHashOf } from '../nix/hash.ts';

/** Node has no decoder for these; the tools are on every machine that runs Nix, but for the last two. */
const PROGRAMS: Readonly<Partial<Record<Compression, readonly [program: string, ...args: string[]]>>> = {
  xz: ['xz'],
  lzma: ['xz', '--format=lzma'],
  bzip2: ['bzip2'],
  lzip: ['lzip'],
  lz4: ['lz4'],
};

/** Contents of a NAR file. */
export interface NarContentsFound {
  readonly narHash: NarHash;
  readonly narSize: number;
  /** How it is compressed, whatever its narinfo says. */
  readonly compression: Compression;
}

/**
 * Decompresses a NAR file and gives the SHA-256 of what comes out: what the signature of a narinfo is about.
 *
 * @param label `Compression` of the narinfo, which counts as much as it does in Nix ({@link compressionOf})
 * @param maxBytes NarSize: more output than that is refused, however little there was to read
 * @param onBytes called with what comes out, piece by piece
 * @throws HASH_MISMATCH where the file does not decompress to at most `maxBytes`, with the decoder's error as its cause and
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
  const compression = compressionOf(label, await headOf(path));
  try {
    for await (const chunk of await decompress(path, compression, signal)) {
      const bytes = chunk as Buffer;
      narSize += bytes.length;
      if (narSize > maxBytes) throw new Error(`it holds more than the ${maxBytes} bytes that were signed`);
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

async function headOf(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r').catch(() => undefined); // reading all of it says why
  const head = await file?.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0).finally(() => file.close());
  return head === undefined ? new Uint8Array() : head.buffer.subarray(0, head.bytesRead);
}

async function decompress(path: string, compression: Compression, signal: AbortSignal | undefined): Promise<Readable> {
  const file = (): Readable =>
    createReadStream(path, { highWaterMark: 1 << 20, ...(signal === undefined ? {} : { signal }) });
  switch (compression) {
    case 'none':
      return file();
    case 'zstd':
      return through(file(), createZstdDecompress());
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
