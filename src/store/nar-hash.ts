import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib';
import { NarswarmError } from '../errors.ts';
import type { NarHash } from '../nix/brands.ts';
import { narHashOf } from '../nix/hash.ts';

/**
 * Decompresses a NAR file and gives the SHA-256 of what comes out: what the signature of a narinfo is about.
 *
 * @param compression as in the narinfo
 * @param maxBytes NarSize: more output than that is refused, however little there was to read
 * @param onBytes called with what comes out, piece by piece
 * @throws HASH_MISMATCH where the file does not decompress to at most `maxBytes`
 */
export async function hashContents(
  path: string,
  compression: string,
  maxBytes: number,
  signal?: AbortSignal,
  onBytes?: (bytes: Buffer) => void,
): Promise<{ narHash: NarHash; narSize: number }> {
  const sha256 = createHash('sha256');
  let narSize = 0;
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
      { cause: error, facts: { path } },
    );
  }
  return { narHash: narHashOf(sha256.digest()), narSize };
}

async function decompress(path: string, compression: string, signal: AbortSignal | undefined): Promise<Readable> {
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
    case 'xz':
    case 'bzip2': {
      // Node has no decoder for these; the tools of that name are on every machine that runs Nix.
      const { execa } = await import('execa'); // 20 ms, which a fetch of sized NARs need not wait for
      return execa(compression, ['-dc', path], {
        buffer: false,
        stdin: 'ignore',
        stderr: 'ignore',
        ...(signal === undefined ? {} : { cancelSignal: signal }),
      }).readable();
    }
    default:
      throw new Error('its compression is not known here');
  }
}

function through(from: Readable, decoder: NodeJS.ReadWriteStream & Readable): Readable {
  from.on('error', (error) => decoder.destroy(error));
  decoder.on('close', () => from.destroy());
  from.pipe(decoder);
  return decoder;
}
