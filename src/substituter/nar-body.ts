import { createHash, hash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import { fileHashOf } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PartialNar } from '../store/partial.ts';
import { pieceLengthOf } from '../torrent/canonical.ts';
import { CHUNK_BYTES, chunkBytes, newChunk, type TakeChunk } from './answer-buffers.ts';
import type { Arrival } from './arrival.ts';

/**
 * Yields a NAR file while it arrives. Its last chunk comes only after the store has verified the whole file, and only if
 * the bytes before it were those of the verified file. So a receiver never gets a wrong file whole.
 *
 * If the pieces are known, a piece is checked before any of it is passed on. Otherwise bytes are passed on as they
 * arrive in order, and the receiver checks them, as Nix does by NarHash.
 *
 * @param take gives the buffer of each chunk
 * @throws the failure of the arrival; HTTP_STALLED if it is still; HASH_MISMATCH if bytes that were passed on turned out to
 *   be wrong
 */
export async function* bytesOf(arrival: Arrival, take: TakeChunk = newChunk): AsyncGenerator<Buffer, void> {
  await using body = new Body(arrival, take);
  for (;;) {
    if (arrival.failure !== undefined) throw arrival.failure;
    const change = arrival.changed();
    const chunk = await body.next();
    if (chunk !== undefined) yield chunk;
    else if (body.isComplete) return;
    else if (arrival.isStill) throw stoodStill(arrival.info);
    else await change;
  }
}

function stoodStill({ storePath }: NarInfo): NarswarmError {
  return new NarswarmError('HTTP_STALLED', `no source sends the NAR of ${storePath}`, { facts: { path: storePath } });
}

/** The bytes of an arrival from its front on. */
class Body implements AsyncDisposable {
  readonly #arrival: Arrival;
  readonly #take: TakeChunk;
  readonly #sha256 = createHash('sha256');
  #sentBytes = 0;
  /** Checked bytes from the front, if pieces are known. */
  #checkedBytes = 0;
  #file: FileHandle | undefined;
  /** True once the file that is read is the verified one. */
  #isVerified = false;

  constructor(arrival: Arrival, take: TakeChunk) {
    this.#arrival = arrival;
    this.#take = take;
  }

  get isComplete(): boolean {
    return this.#sentBytes === this.#arrival.sizeBytes;
  }

  /** Returns the next bytes. Undefined if none are here yet, or after the last. */
  async next(): Promise<Buffer | undefined> {
    const { path, partial, sizeBytes } = this.#arrival;
    if (path !== undefined) {
      if (!this.#isVerified) await this.#openVerified(path);
      return this.#read(Math.min(chunkBytes(), sizeBytes - this.#sentBytes));
    }
    if (partial === undefined || partial.isInMemory) return undefined; // a small one is complete in a moment
    if (partial.frontBytes < this.#sentBytes) throw this.#changed();
    this.#file ??= await open(partial.path).catch(() => undefined); // it may have just been verified and moved
    if (this.#file === undefined) return undefined;
    const readyBytes = await this.#ready(partial);
    const length = Math.min(chunkBytes(), readyBytes - this.#sentBytes, sizeBytes - 1 - this.#sentBytes);
    return length > 0 ? this.#read(length) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
  }

  /** Returns the number of bytes from the front that may be passed on. */
  async #ready(partial: PartialNar): Promise<number> {
    const { pieces, frontBytes } = partial;
    if (pieces === undefined) return frontBytes;
    const { sizeBytes } = this.#arrival;
    const pieceLength = pieceLengthOf(sizeBytes);
    if (this.#checkedBytes > this.#sentBytes) return this.#checkedBytes; // one piece ahead is enough
    const length = Math.min(pieceLength, sizeBytes - this.#checkedBytes);
    if (this.#checkedBytes + length > frontBytes) return this.#checkedBytes;
    const piece = await this.#peek(this.#checkedBytes, length);
    const index = Math.floor(this.#checkedBytes / pieceLength);
    const wanted = pieces.subarray(index * 20, index * 20 + 20);
    // A wrong piece is found and fetched again before the NAR is verified.
    if (hash('sha1', piece, 'buffer').compare(wanted) === 0) this.#checkedBytes += length;
    return this.#checkedBytes;
  }

  async #openVerified(path: string): Promise<void> {
    await this.#file?.close();
    this.#file = await open(path);
    this.#isVerified = true;
    if (this.#sentBytes === 0) return;
    // Bytes that were passed on may have been replaced since.
    const sha256 = this.#sha256.copy();
    for (let at = this.#sentBytes; at < this.#arrival.sizeBytes; at += CHUNK_BYTES)
      sha256.update(await this.#peek(at, Math.min(CHUNK_BYTES, this.#arrival.sizeBytes - at)));
    if (fileHashOf(sha256.digest()) !== this.#arrival.fileHash) throw this.#changed();
  }

  async #read(length: number): Promise<Buffer | undefined> {
    if (length <= 0) return undefined;
    const bytes = await this.#peek(this.#sentBytes, length, this.#take(length));
    this.#sha256.update(bytes);
    this.#sentBytes += length;
    return bytes;
  }

  async #peek(offset: number, length: number, buffer: Buffer = Buffer.allocUnsafe(length)): Promise<Buffer> {
    const { bytesRead = 0 } = (await this.#file?.read(buffer, 0, length, offset)) ?? {};
    if (bytesRead < length) throw this.#changed();
    return buffer;
  }

  #changed(): NarswarmError {
    const { storePath } = this.#arrival.info;
    return new NarswarmError('HASH_MISMATCH', `wrong bytes of the NAR of ${storePath} have arrived`, {
      facts: { path: storePath },
    });
  }
}
