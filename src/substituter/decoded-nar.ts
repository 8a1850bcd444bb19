import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type PQueue from 'p-queue';
import { NarswarmError } from '../errors.ts';
import { narHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { XzStream } from '../store/decoding/xz-stream.ts';
import { asError } from '../warning.ts';
import { Readers } from './readers.ts';

const CHUNK_BYTES = 512 * 1024;
/** Interval of looks at the output of xz, while its input is slow. */
const LOOK_MS = 100;

export interface DecodedNarOptions {
  /** The bytes of the xz file. It fails if they are wrong. */
  readonly source: () => AsyncIterable<Uint8Array>;
  /** Makes the temporary file. */
  readonly makeFile: () => Promise<FileHandle>;
  /** One turn for each processor. */
  readonly turns: PQueue;
  /** Called once it is decoded, or cannot be. */
  readonly onEnded: () => void;
  /** Called when its last client has gone. */
  readonly onLeft: () => void;
}

/** A NAR that is decoded into a temporary file, and given to clients meanwhile. */
export class DecodedNar implements AsyncDisposable {
  readonly info: NarInfo;
  readonly #options: DecodedNarOptions;
  readonly #readers: Readers;
  #file: FileHandle | undefined;
  #xz: XzStream | undefined;
  #isWhole = false;
  #isUndecodable = false;
  #failure: Error | undefined;
  #change = Promise.withResolvers<void>();

  /** Begins to decode. */
  constructor(info: NarInfo, options: DecodedNarOptions) {
    this.info = info;
    this.#options = options;
    this.#readers = new Readers(options.onLeft);
    void this.#decode()
      .then(() => (this.#isWhole = true))
      .catch((error: unknown) => (this.#failure ??= asError(error)))
      .then(() => this.#tell())
      .finally(() => options.onEnded());
  }

  /** True while a client waits for it or receives it. */
  get hasReaders(): boolean {
    return !this.#readers.isEmpty;
  }

  get hasEnded(): boolean {
    return this.#isWhole || this.#failure !== undefined;
  }

  /** True if not its source has failed, but xz or the disk. */
  get isUndecodable(): boolean {
    return this.#isUndecodable;
  }

  /** The reason why it cannot be decoded. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Counts a client. Call the returned function once the client has gone. */
  enter(): () => void {
    return this.#readers.enter();
  }

  /** Resolves once its first bytes are there, or it has failed. */
  async begun(): Promise<void> {
    while (!this.hasEnded) {
      const change = this.#change.promise;
      if ((await this.#decodedBytes()) > 0) return;
      await change;
    }
  }

  /**
   * Yields the NAR while it is decoded. The last chunk comes only after the store has verified the xz file, and if all
   * bytes have the right NarHash.
   *
   * @throws the reason why the source or xz has failed; HASH_MISMATCH
   */
  async *bytes(): AsyncGenerator<Buffer, void> {
    const { narSize, narHash, storePath } = this.info;
    const sha256 = createHash('sha256');
    for (let sentBytes = 0; sentBytes < narSize;) {
      const change = this.#change.promise;
      if (this.#failure !== undefined) throw this.#failure;
      const readyBytes = this.#isWhole ? narSize : Math.min(await this.#decodedBytes(), narSize - 1);
      const length = Math.min(CHUNK_BYTES, readyBytes - sentBytes);
      if (length <= 0) {
        await change;
        continue;
      }
      const chunk = Buffer.allocUnsafe(length);
      const { bytesRead = 0 } = (await this.#file?.read(chunk, 0, length, sentBytes)) ?? {};
      sha256.update(chunk.subarray(0, bytesRead));
      sentBytes += bytesRead;
      if (bytesRead < length || (sentBytes === narSize && narHashOf(sha256.digest()) !== narHash))
        throw new NarswarmError('HASH_MISMATCH', `the NAR of ${storePath} is wrong`, { facts: { path: storePath } });
      yield chunk;
    }
  }

  /** Ends everything. Clients that still receive it do not get its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new Error('it is no longer wanted');
    this.#tell();
    await this.#xz?.[Symbol.asyncDispose]();
    await this.#file?.close();
  }

  async #decode(): Promise<void> {
    const { source, makeFile, turns } = this.#options;
    const { narSize } = this.info;
    const file = await makeFile().catch((error: unknown) => this.#refuse(error));
    if (this.#failure !== undefined) return file.close(); // disposed of meanwhile
    this.#file = file;
    const xz = (this.#xz = new XzStream(file.fd, narSize));
    const looking = setInterval(() => this.#tell(), LOOK_MS); // xz writes a while after it has read
    try {
      for await (const bytes of source()) {
        const isTaken = await turns.add(() => xz.write(bytes), { priority: this.hasReaders ? 1 : 0 });
        if (!isTaken) this.#refuse();
        this.#tell();
      }
      if (!(await xz.end()) || (await this.#decodedBytes()) !== narSize) this.#refuse();
    } finally {
      clearInterval(looking);
      await xz[Symbol.asyncDispose]();
    }
  }

  #refuse(cause?: unknown): never {
    this.#isUndecodable = this.#failure === undefined;
    const { storePath } = this.info;
    throw new NarswarmError('HASH_MISMATCH', `the NAR of ${storePath} cannot be decoded`, {
      cause,
      facts: { path: storePath },
    });
  }

  async #decodedBytes(): Promise<number> {
    return (await this.#file?.stat())?.size ?? 0;
  }

  #tell(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}
