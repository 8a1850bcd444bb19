import { hash } from 'node:crypto';
import { open, rename, unlink, type FileHandle } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import type { FileHash } from '../nix/brands.ts';
import { fileHashOf, sha256Bytes } from '../nix/hash.ts';
import type { NarTorrent } from '../torrent/canonical.ts';
import { newSha256, placeIfRight, type Sha256 } from '../torrent/hash-thread.ts';
import { giveBack, lend, takeBuffer } from '../torrent/lent-buffers.ts';
import { storeError, systemCode } from './store-error.ts';

/** Where the bytes of a piece came from: named when they turn out to be wrong. */
export type Origin = string;

const EARLIER_RUN: Origin = 'an earlier run';
const READ_BYTES = 1 << 20;
/** A NAR up to this size waits in memory: one file is written, once, when it is known to be good. */
const MEMORY_BYTES = 1 << 20;

/** A stretch of bytes, `[from, to)`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * A NAR on its way into the store. Sources write into it, one after the other or several at once; {@link settle}
 * checks size and SHA-256 and only then renames it into place.
 *
 * With a torrent, any piece may come first and a run that follows finds the good ones by their SHA-1. Without one,
 * bytes come in order and the length of the file is what there is.
 */
export class PartialNar implements AsyncDisposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #fileHash: FileHash;
  readonly #torrent: NarTorrent | undefined;
  readonly #pieceBytes: number;
  /**
   * Bytes held of each piece; pieces are written whole by peers, from the front by HTTP. Not 32 bits wide: without a
   * torrent the whole NAR is one piece.
   */
  readonly #held: Float64Array;
  readonly #origins: (Origin | undefined)[];
  /** The bytes of a small NAR; allocated when the first ones come, so that a NAR that waits costs nothing. */
  #memory: Uint8Array | undefined;
  #file: FileHandle | undefined;
  /** Pieces whose SHA-1 is known to fit. */
  readonly #checked = new Set<number>();
  readonly #writing = new Set<Promise<void>>();
  #sha256: Sha256 | undefined;
  #hashedBytes = 0;

  private constructor(path: string, sizeBytes: number, fileHash: FileHash, torrent: NarTorrent | undefined) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#fileHash = fileHash;
    this.#torrent = torrent;
    this.#pieceBytes = torrent?.pieceLength ?? sizeBytes;
    const pieces = Math.max(1, Math.ceil(sizeBytes / this.#pieceBytes));
    this.#held = new Float64Array(pieces);
    this.#origins = Array.from({ length: pieces });
  }

  /**
   * Opens the partial file at `path`, taking over what an earlier run left there.
   *
   * @param expected size in bytes and SHA-256 of the whole NAR file, and its torrent where one is known
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  static async open(
    path: string,
    expected: { sizeBytes: number; fileHash: FileHash; torrent?: NarTorrent | undefined },
  ): Promise<PartialNar> {
    const partial = new PartialNar(path, expected.sizeBytes, expected.fileHash, expected.torrent);
    if (partial.#inMemory) return partial;
    try {
      partial.#file = await openOrCreate(path);
      const { size } = await partial.#file.stat();
      if (size > 0) await partial.#recover(Math.min(size, partial.sizeBytes));
    } catch (error) {
      await partial.close();
      throw storeError(error, path);
    }
    return partial;
  }

  get pieceCount(): number {
    return this.#held.length;
  }

  /** True where piece `index` is there in full. */
  has(index: number): boolean {
    return this.#held[index] === this.#lengthOf(index);
  }

  /** Bytes held, of {@link sizeBytes}. */
  get heldBytes(): number {
    return this.#held.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** The stretches that are still missing, in order; neighbours joined. */
  missing(): Range[] {
    const ranges: { from: number; to: number }[] = [];
    for (let index = 0; index < this.#held.length; index++) {
      const start = index * this.#pieceBytes;
      const from = start + (this.#held[index] ?? 0);
      const to = start + this.#lengthOf(index);
      if (from === to) continue;
      const last = ranges.at(-1);
      if (last?.to === from) last.to = to;
      else ranges.push({ from, to });
    }
    return ranges;
  }

  /** Writes a whole piece that a peer sent and whose SHA-1 was checked. */
  putPiece(index: number, bytes: Uint8Array, origin: Origin): Promise<void> {
    return this.#track(this.#putPiece(index, bytes, origin));
  }

  async #putPiece(index: number, bytes: Uint8Array, origin: Origin): Promise<void> {
    if (this.has(index)) return;
    // a NAR that is one piece needs no copy: whoever sent it leaves the buffer to us
    if (this.#inMemory && bytes.length === this.sizeBytes) this.#memory = bytes;
    await this.#write(index * this.#pieceBytes, [bytes], bytes.length);
    this.#held[index] = bytes.length;
    this.#origins[index] = origin;
    this.#checked.add(index);
  }

  /**
   * Writes bytes that an HTTP server sent, in chunks that follow each other. They go on from what a stretch of
   * {@link missing} starts with.
   *
   * @throws SIZE_MISMATCH, before anything is written, where they reach beyond the NAR; STORE_FULL, STORE_UNWRITABLE
   */
  write(offset: number, chunks: readonly Uint8Array[], origin: Origin): Promise<void> {
    return this.#track(this.#writeChunks(offset, chunks, origin));
  }

  async #writeChunks(offset: number, chunks: readonly Uint8Array[], origin: Origin): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (offset < 0 || offset + length > this.sizeBytes) {
      const what = `${origin} sent bytes ${offset} to ${offset + length} of a NAR of ${this.sizeBytes} bytes`;
      throw new NarswarmError('SIZE_MISMATCH', what, { facts: { path: this.path, origin } });
    }
    await this.#write(offset, chunks, length);
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / this.#pieceBytes);
      const start = index * this.#pieceBytes;
      const end = Math.min(start + this.#lengthOf(index), offset + length);
      this.#origins[index] = this.#held[index] === 0 ? origin : joined(this.#origins[index], origin);
      this.#held[index] = Math.max(this.#held[index] ?? 0, end - start);
      this.#checked.delete(index);
      at = end;
    }
  }

  /** Reads a stretch that is held, to serve it to a peer. */
  read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#memory !== undefined) lend(this.#memory); // whoever sends it gives it back
    return this.#read(offset, length);
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#memory !== undefined) return this.#memory.subarray(offset, offset + length);
    const bytes = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.#open().read(bytes, 0, length, offset);
    return bytes.subarray(0, bytesRead);
  }

  /**
   * Checks the whole against size and SHA-256 and moves it to `target`. Not one byte is at `target` before that.
   *
   * @returns whether every piece fits the torrent, which a hash map may have got wrong: if not, it must not be passed on
   * @throws HASH_MISMATCH where the bytes are not those of the NAR; what cannot be good was forgotten, so that
   *   {@link missing} tells what to fetch again. `facts.mapLied` is true where every piece fits the torrent:
   *   then the hash map named other bytes, and no source is to blame. `facts.origins` names who gave bad pieces.
   */
  async settle(target: string): Promise<boolean> {
    await this.drain();
    if (this.missing().length > 0)
      throw new NarswarmError('SIZE_MISMATCH', `${this.path} is not complete`, { facts: { path: this.path } });
    return this.#memory === undefined ? this.#settleFile(target) : this.#settleMemory(this.#memory, target);
  }

  async #settleFile(target: string): Promise<boolean> {
    const found = await this.#digest();
    if (found !== this.#fileHash) throw await this.#blame(found);
    const fitsTorrent = await this.#fitsTorrent();
    try {
      await cutTo(this.#open(), this.sizeBytes);
      await this.close();
      await rename(this.path, target);
      return fitsTorrent;
    } catch (error) {
      throw storeError(error, target);
    }
  }

  async #settleMemory(bytes: Uint8Array, target: string): Promise<boolean> {
    const sha256 = Buffer.from(sha256Bytes(this.#fileHash)).toString('hex');
    const digest = await placeIfRight(bytes, { path: this.path, target, sha256 }).catch((error: unknown) => {
      throw storeError(error, target);
    });
    if (digest !== sha256) throw await this.#blame(fileHashOf(Buffer.from(digest, 'hex')));
    const fitsTorrent = await this.#fitsTorrent();
    giveBack(bytes);
    this.#memory = undefined;
    return fitsTorrent;
  }

  /** Waits until what is being written is written: a source that was stopped may have a piece on its way to the disk. */
  async drain(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing);
  }

  /** Forgets everything, as if nothing had come yet. */
  reset(): void {
    this.#held.fill(0);
    this.#origins.fill(undefined);
    this.#checked.clear();
    this.#restartHash();
  }

  async discard(): Promise<void> {
    await this.close();
    await unlink(this.path).catch(() => undefined);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#sha256?.forget();
    await file?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #inMemory(): boolean {
    return this.sizeBytes <= MEMORY_BYTES;
  }

  #lengthOf(index: number): number {
    return Math.min(this.#pieceBytes, this.sizeBytes - index * this.#pieceBytes);
  }

  #open(): FileHandle {
    if (this.#file === undefined) throw new NarswarmError('STORE_UNWRITABLE', `${this.path} was closed`);
    return this.#file;
  }

  async #write(offset: number, chunks: readonly Uint8Array[], length: number): Promise<void> {
    if (this.#inMemory) {
      this.#remember(offset, chunks);
      return;
    }
    // Bytes that come in order are hashed while they are in the processor's cache; the rest is read back in settle().
    let hashed: void | Promise<void> = undefined;
    if (offset < this.#hashedBytes) this.#restartHash(); // a peer replaces what HTTP had begun
    if (offset === this.#hashedBytes) {
      this.#sha256 ??= newSha256();
      hashed = this.#sha256.update(chunks);
      this.#hashedBytes += length;
    }
    await Promise.all([hashed, this.#writeFile(offset, chunks, length)]);
  }

  async #writeFile(offset: number, chunks: readonly Uint8Array[], length: number): Promise<void> {
    try {
      const { bytesWritten } = await this.#open().writev(chunks, offset);
      if (bytesWritten < length) await this.#writeRest(offset, Buffer.concat(chunks), bytesWritten);
    } catch (error) {
      throw storeError(error, this.path);
    }
  }

  /** Counts a write as under way until it is done, for {@link drain}. */
  async #track(writing: Promise<void>): Promise<void> {
    this.#writing.add(writing);
    try {
      await writing;
    } finally {
      this.#writing.delete(writing);
    }
  }

  /** A full disk takes a part before it refuses the rest. */
  async #writeRest(offset: number, bytes: Uint8Array, written: number): Promise<void> {
    for (let done = written; done < bytes.length;) {
      const { bytesWritten } = await this.#open().write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  #remember(offset: number, chunks: readonly Uint8Array[]): void {
    this.#memory ??= takeBuffer(this.sizeBytes).subarray(0, this.sizeBytes);
    let at = offset;
    for (const chunk of chunks) {
      if (chunk !== this.#memory) this.#memory.set(chunk, at);
      at += chunk.length;
    }
  }

  #restartHash(): void {
    this.#sha256?.forget();
    this.#sha256 = undefined;
    this.#hashedBytes = 0;
  }

  async #digest(): Promise<FileHash> {
    const sha256 = (this.#sha256 ??= newSha256());
    while (this.#hashedBytes < this.sizeBytes) {
      const bytes = await this.#read(this.#hashedBytes, Math.min(READ_BYTES, this.sizeBytes - this.#hashedBytes));
      if (bytes.length === 0)
        throw new NarswarmError('STORE_UNWRITABLE', `${this.path} was cut short by somebody else`);
      await sha256.update([bytes]);
      this.#hashedBytes += bytes.length;
    }
    return fileHashOf(Buffer.from(await sha256.digest(), 'hex'));
  }

  /** Takes over what lies in the file: pieces whose SHA-1 fits, or without a torrent the whole length. */
  async #recover(fileBytes: number): Promise<void> {
    if (this.#torrent === undefined) {
      this.#held[0] = fileBytes;
      this.#origins[0] = EARLIER_RUN;
      return;
    }
    for (let index = 0; index < this.#held.length; index++) {
      if (index * this.#pieceBytes + this.#lengthOf(index) > fileBytes) break;
      if (await this.#fits(index)) {
        this.#held[index] = this.#lengthOf(index);
        this.#origins[index] = EARLIER_RUN;
        this.#checked.add(index);
      }
    }
  }

  async #fits(index: number): Promise<boolean> {
    if (this.#torrent === undefined) return false;
    const bytes = await this.#read(index * this.#pieceBytes, this.#lengthOf(index));
    return (
      hash('sha1', bytes, 'hex') ===
      Buffer.from(this.#torrent.pieces.subarray(index * 20, index * 20 + 20)).toString('hex')
    );
  }

  async #fitsTorrent(): Promise<boolean> {
    if (this.#torrent === undefined) return false;
    for (let index = 0; index < this.#held.length; index++) {
      if (!this.#checked.has(index) && !(await this.#fits(index))) return false;
    }
    return true;
  }

  async #blame(found: FileHash): Promise<NarswarmError> {
    const bad: number[] = [];
    for (let index = 0; index < this.#held.length; index++) if (!(await this.#fits(index))) bad.push(index);
    const mapLied = this.#torrent !== undefined && bad.length === 0;
    const origins = [...new Set(bad.map((index) => this.#origins[index] ?? EARLIER_RUN))].join(', ');
    if (mapLied || this.#torrent === undefined) this.reset();
    else {
      for (const index of bad) {
        this.#held[index] = 0;
        this.#checked.delete(index);
      }
      this.#restartHash();
    }
    const from = mapLied ? 'the hash map names other bytes' : `bytes came from ${origins}`;
    return new NarswarmError(
      'HASH_MISMATCH',
      `the NAR ${this.#fileHash} is not what its narinfo says: its SHA-256 is ${found} (${from})`,
      {
        facts: { fileHash: this.#fileHash, found, mapLied, origins },
      },
    );
  }
}

/** The origins of a piece that several have sent parts of, each once. */
function joined(before: Origin | undefined, origin: Origin): Origin {
  if (before === undefined || before.split(', ').includes(origin)) return before ?? origin;
  return `${before}, ${origin}`;
}

/** A file that an earlier run made for a larger NAR is cut; asking costs less than cutting. */
async function cutTo(file: FileHandle, sizeBytes: number): Promise<void> {
  if ((await file.stat()).size !== sizeBytes) await file.truncate(sizeBytes);
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+');
  } catch (error) {
    if (systemCode(error) === 'ENOENT')
      return await open(path, 'w+').catch((cause: unknown) => Promise.reject(storeError(cause, path)));
    throw storeError(error, path);
  }
}
