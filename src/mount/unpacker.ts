import { createWriteStream } from 'node:fs';
import { availableParallelism } from 'node:os';
import { pipeline } from 'node:stream/promises';
import PQueue from 'p-queue';
import { storeError, systemCode } from '../disk/store-error.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { FileStore } from '../store/file-store.ts';
import { compressionOfFile, readContents } from '../store/hashing/nar-contents.ts';
import { XzDecoders } from '../store/decoding/xz-decoders.ts';

/** Unpacks NAR files into other files: as many at a time as there are processors. */
export class Unpacker implements AsyncDisposable {
  readonly #decoders: XzDecoders;
  readonly #signal: AbortSignal;
  readonly #queue = new PQueue({ concurrency: availableParallelism() });

  constructor(signal: AbortSignal) {
    this.#decoders = new XzDecoders(signal);
    this.#signal = signal;
  }

  /**
   * Unpacks the file of a narinfo.
   *
   * @param to a new file
   * @throws HASH_MISMATCH if it does not hold NarSize bytes; STORE_FULL, STORE_UNWRITABLE; the signal's reason
   */
  async unpack(info: NarInfo, store: FileStore, to: string): Promise<void> {
    const from = store.narPath(info);
    await this.#queue.add(async () => {
      this.#signal.throwIfAborted();
      // A shell starts xz in a fifth of the time that this process takes.
      const isXz = (await compressionOfFile(from, info.compression)) === 'xz';
      if (isXz && (await this.#decoders.decode(from, to, info.narSize))) return;
      await writeBytes(readContents(from, info.compression, info.narSize, this.#signal), to); // also to know the reason
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#decoders[Symbol.asyncDispose]();
  }
}

/** Writes bytes into a file. @throws STORE_FULL, STORE_UNWRITABLE; errors of the bytes */
export async function writeBytes(bytes: AsyncIterable<Buffer>, to: string): Promise<void> {
  try {
    await pipeline(bytes, createWriteStream(to, { mode: 0o600 }));
  } catch (error) {
    throw systemCode(error) === undefined ? error : storeError(error, to);
  }
}
