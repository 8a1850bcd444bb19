import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { Duplex, PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { systemCode, inStore } from '../../disk/store-error.ts';
import { NarswarmError } from '../../errors.ts';
import type { FileHash, NarHash } from '../../nix/brands.ts';
import { fileHashOf, narHashOf } from '../../nix/hash.ts';
import { MAX_PIECE_LENGTH } from '../../torrent/canonical.ts';

/** How to compress NARs. */
export interface NarFormat {
  readonly compression: 'zstd' | 'xz' | 'none';
  /** Level of zstd, from 1 to {@link MAX_ZSTD_LEVEL}. Other compressions have none. */
  readonly level?: number;
}

/**
 * Measured with 314 MB of NARs: 4.8 s of processor time for 109 MB of files. Level 3 takes 1.7 s for 118 MB, 12 12.4 s for
 * 108 MB, 19 86 s for 100 MB, xz 91 s for 96 MB.
 */
export const DEFAULT_ZSTD_LEVEL = 9;
/** zstd has higher levels, whose decoders take more memory than some programs allow. */
export const MAX_ZSTD_LEVEL = 19;
/** Largest measured memory of one encoder: xz, or zstd at level 19. */
const ENCODER_BYTES = 128 * 1024 * 1024;
/** The level of the build servers of Nix. One thread: with more, xz writes other and larger files. */
const XZ = ['-6', '--threads=1', '--stdout'] as const;

/** A NAR file that was written, and its hashes. */
export interface WrittenNar {
  /** SHA-256 of the NAR as it arrived. */
  readonly narHash: NarHash;
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** SHA-1 of each piece of the canonical torrent, concatenated. */
  readonly pieces: Uint8Array;
}

/**
 * Does work that compresses NARs, in the order of the items: as many at a time as there are processors. Their encoders take
 * at most a quarter of the memory.
 *
 * @param work gets a signal that also ends it if other work has failed
 * @throws the first failure, once all work has ended; the signal's reason
 */
export async function eachAtEncoders<T>(
  items: readonly T[],
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const rest = items.values();
  const lane = async (): Promise<void> => {
    for (const item of rest) {
      either.throwIfAborted();
      await work(item, either);
    }
  };
  const count = Math.min(availableParallelism(), Math.max(1, Math.floor(totalmem() / 4 / ENCODER_BYTES)));
  const lanes = Array.from({ length: count }, () =>
    lane().catch((error: unknown) => {
      failed.abort(error); // the first failure is the reason of all others
      throw error;
    }),
  );
  await Promise.allSettled(lanes);
  await Promise.all(lanes);
}

/**
 * Compresses a NAR into a new file. Computes all hashes in the same pass. The same NAR, format and version of zstd give the
 * same bytes.
 *
 * @param narSize length of the NAR; zstd files name it
 * @param onBytes called with the number of bytes of each part of the NAR
 * @throws STORE_FULL, STORE_UNWRITABLE; NIX_MISSING without xz; errors of `nar`; the signal's reason
 */
export async function writeNar(
  nar: AsyncIterable<Buffer>,
  to: string,
  options: {
    readonly format: NarFormat;
    readonly narSize: number;
    readonly signal: AbortSignal;
    readonly onBytes: (bytes: number) => void;
  },
): Promise<WrittenNar> {
  const { format, narSize, signal, onBytes } = options;
  const narHash = createHash('sha256');
  const hashed = async function* (): AsyncGenerator<Buffer> {
    for await (const bytes of nar) {
      narHash.update(bytes);
      yield bytes;
      onBytes(bytes.length);
    }
  };
  const file = new HashedFile();
  await using encoder = encoderOf(format, narSize);
  const whole = async function* (): AsyncGenerator<Buffer> {
    yield* hashed();
    await encoder.settled();
  };
  try {
    await pipeline(whole, encoder.stream, (from) => file.write(to, from as AsyncIterable<Buffer>), { signal });
    await encoder.end();
  } catch (error) {
    signal.throwIfAborted();
    throw format.compression === 'xz' && systemCode(error) === 'ENOENT' ? withoutXz(error) : error;
  }
  return { narHash: narHashOf(narHash.digest()), ...file.hashes() };
}

/** A file that is hashed while it is written. */
class HashedFile {
  readonly #sha256 = createHash('sha256');
  readonly #pieces: Uint8Array[] = [];
  #piece = createHash('sha1');
  #sizeBytes = 0;

  async write(path: string, from: AsyncIterable<Buffer>): Promise<void> {
    const handle = await inStore(open(path, 'w'), path);
    try {
      for await (const bytes of from) {
        this.#update(bytes);
        await inStore(handle.writeFile(bytes), path);
      }
    } finally {
      await handle.close();
    }
  }

  hashes(): Omit<WrittenNar, 'narHash'> {
    if (this.#sizeBytes % MAX_PIECE_LENGTH !== 0) this.#endPiece();
    return {
      fileHash: fileHashOf(this.#sha256.digest()),
      sizeBytes: this.#sizeBytes,
      pieces: Buffer.concat(this.#pieces),
    };
  }

  #update(bytes: Buffer): void {
    this.#sha256.update(bytes);
    for (let at = 0; at < bytes.length;) {
      // A file of less than the longest piece is a single piece, whatever its length is.
      const part = bytes.subarray(at, at + MAX_PIECE_LENGTH - (this.#sizeBytes % MAX_PIECE_LENGTH));
      this.#piece.update(part);
      this.#sizeBytes += part.length;
      at += part.length;
      if (this.#sizeBytes % MAX_PIECE_LENGTH === 0) this.#endPiece();
    }
  }

  #endPiece(): void {
    this.#pieces.push(this.#piece.digest());
    this.#piece = createHash('sha1');
  }
}

interface Encoder extends AsyncDisposable {
  readonly stream: NodeJS.ReadWriteStream;
  /** Resolves once all that was written so far is compressed. */
  settled(): Promise<void>;
  /** Throws if the encoder has failed without an error of its stream. */
  end(): Promise<void>;
}

function encoderOf({ compression, level }: NarFormat, narSize: number): Encoder {
  if (compression === 'xz') return xzEncoder();
  const stream =
    compression === 'none'
      ? new PassThrough()
      : createZstdCompress({
          pledgedSrcSize: narSize,
          chunkSize: MAX_PIECE_LENGTH,
          params: { [constants.ZSTD_c_compressionLevel]: level ?? DEFAULT_ZSTD_LEVEL },
        });
  return {
    stream,
    // If the end comes together with the last bytes, zstd writes another file.
    settled: () => new Promise((resolve) => void stream.write(Buffer.alloc(0), () => resolve())),
    end: async () => undefined,
    [Symbol.asyncDispose]: async () => void stream.destroy(),
  };
}

function withoutXz(cause: unknown): NarswarmError {
  const message = 'there is no `xz` in PATH, which compresses NARs: install xz, or choose --compression zstd';
  return new NarswarmError('NIX_MISSING', message, { cause });
}

function xzEncoder(): Encoder {
  // Ctrl-C reaches only the processes of the terminal's group: this one ends xz in good order.
  const child = spawn('xz', XZ, { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
  const closed = once(child, 'close');
  closed.catch(() => undefined); // the stream fails, too, or `end` throws it
  child.once('error', (error) => child.stdout.destroy(error));
  return {
    stream: Duplex.from({ writable: child.stdin, readable: child.stdout }),
    settled: async () => undefined,
    async end() {
      const [status, signal] = await closed;
      if (status !== 0) throw new Error(`xz failed: ${status ?? signal}`);
    },
    async [Symbol.asyncDispose]() {
      child.kill();
      // A pipe that nobody reads to its end would keep the process open after xz has ended.
      child.stdin.destroy();
      child.stdout.destroy();
      await closed.catch(() => undefined);
    },
  };
}
