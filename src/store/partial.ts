import { hash } from 'node:crypto';
import { unlink } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import type { FileHash } from '../nix/brands.ts';
import { PIECE_HASH_BYTES, type NarTorrent } from '../torrent/canonical.ts';
import type { PartialBytes } from './partial-bytes/bytes.ts';
import { EARLIER_RUN, HeldPieces, type Origin, type Range } from './partial-bytes/held-pieces.ts';
import { BytesInFile } from './partial-bytes/in-file.ts';
import { BytesInMemory } from './partial-bytes/in-memory.ts';
import { storeError } from '../disk/store-error.ts';

export type { Origin, Range } from './partial-bytes/held-pieces.ts';

/** A NAR up to this size waits in memory, and comes to its file only where it is closed before it is whole. */
const MEMORY_BYTES = 1 << 20;

/** What a NAR file has to be. */
interface Expected {
  /** Bytes of the whole file. */
  readonly sizeBytes: number;
  /** SHA-256 of the whole file. */
  readonly fileHash: FileHash;
  readonly torrent?: NarTorrent | undefined;
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
  readonly #held: HeldPieces;
  readonly #bytes: PartialBytes;
  readonly #writing = new Set<Promise<void>>();

  private constructor(path: string, { sizeBytes, fileHash, torrent }: Expected, bytes: PartialBytes) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#fileHash = fileHash;
    this.#torrent = torrent;
    this.#held = new HeldPieces(sizeBytes, torrent?.pieceLength ?? sizeBytes);
    this.#bytes = bytes;
  }

  /**
   * Opens the partial file at `path`, taking over what an earlier run left there.
   *
   * @param expected size in bytes and SHA-256 of the whole NAR file, and its torrent where one is known
   * @param leftovers paths of the partial files that there are: for a small NAR no other is looked for, and one that is
   *   written is added
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  static async open(path: string, expected: Expected, leftovers = new Set<string>()): Promise<PartialNar> {
    const { sizeBytes } = expected;
    if (sizeBytes <= MEMORY_BYTES) {
      const memory = new BytesInMemory(path, sizeBytes, leftovers);
      const small = new PartialNar(path, expected, memory);
      if (leftovers.has(path)) await small.#recover(await memory.takeOver());
      return small;
    }
    const file = await BytesInFile.open(path, sizeBytes);
    const partial = new PartialNar(path, expected, file);
    try {
      await partial.#recover(await file.foundBytes());
    } catch (error) {
      await partial.close();
      throw storeError(error, path);
    }
    return partial;
  }

  get pieceCount(): number {
    return this.#held.count;
  }

  /** True where piece `index` is there in full. */
  has(index: number): boolean {
    return this.#held.has(index);
  }

  /** Bytes held, of {@link sizeBytes}. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** The stretches that are still missing, in order; neighbours joined. */
  missing(): Range[] {
    return this.#held.missing();
  }

  /**
   * Writes a whole piece that a peer sent and whose SHA-1 was checked. A NAR that is one piece needs no copy: whoever
   * sent it leaves the buffer to us.
   */
  putPiece(index: number, bytes: Uint8Array, origin: Origin): Promise<void> {
    return this.#track(this.#putPiece(index, bytes, origin));
  }

  async #putPiece(index: number, bytes: Uint8Array, origin: Origin): Promise<void> {
    if (this.has(index)) return;
    await this.#bytes.writePiece(this.#held.startOf(index), bytes);
    this.#held.addPiece(index, origin);
  }

  /**
   * Writes bytes that an HTTP server sent, in chunks that follow each other. They go on from what a stretch of
   * {@link missing} starts with.
   *
   * @throws SIZE_MISMATCH, before anything is written, where they reach beyond the NAR; STORE_FULL, STORE_UNWRITABLE
   */
  write(offset: number, chunks: readonly Uint8Array[], origin: Origin): Promise<void> {
    return this.#track(this.#write(offset, chunks, origin));
  }

  async #write(offset: number, chunks: readonly Uint8Array[], origin: Origin): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (offset < 0 || offset + length > this.sizeBytes) {
      const what = `${origin} sent bytes ${offset} to ${offset + length} of a NAR of ${this.sizeBytes} bytes`;
      throw new NarswarmError('SIZE_MISMATCH', what, { facts: { path: this.path, origin } });
    }
    await this.#bytes.write(offset, chunks, length);
    this.#held.addBytes(offset, length, origin);
  }

  /** Reads a stretch that is held, to serve it to a peer: whoever sends it gives it back. */
  read(offset: number, length: number): Promise<Uint8Array> {
    return this.#bytes.lend(offset, length);
  }

  /**
   * Checks the whole against size and SHA-256 and moves it to `target`. Not one byte is at `target` before that.
   *
   * @param judge told of a whole file at `path` whose SHA-256 is another, where no single piece is to blame: where it is to
   *   go if its contents are right all the same
   * @returns whether every piece fits the torrent, which a hash map may have got wrong: if not, it must not be passed on
   * @throws HASH_MISMATCH where the bytes are not those of the NAR; what cannot be good was forgotten, so that
   *   {@link missing} tells what to fetch again. `facts.mapLied` is true where every piece fits the torrent:
   *   then the hash map named other bytes, and no source is to blame. `facts.origins` names who gave bad pieces.
   */
  async settle(
    target: string,
    judge?: (path: string, fileHash: FileHash) => Promise<string | undefined>,
  ): Promise<boolean> {
    await this.drain();
    if (this.missing().length > 0)
      throw new NarswarmError('SIZE_MISMATCH', `${this.path} is not complete`, { facts: { path: this.path } });
    const found = await this.#bytes.check();
    if (found !== this.#fileHash) {
      const isWhole = this.#torrent === undefined || (await this.#badPieces()).length === 0;
      const other = isWhole ? await judge?.(await this.#bytes.toFile(), found) : undefined;
      if (other === undefined) throw await this.#blame(found);
      await this.#bytes.moveTo(other);
      return false;
    }
    const fitsTorrent = await this.#fitsTorrent();
    await this.#bytes.finish(target);
    return fitsTorrent;
  }

  /** The first bytes of a NAR that is complete. */
  async head(length: number): Promise<Uint8Array> {
    return (await this.#bytes.read(0, Math.min(length, this.sizeBytes))).slice(); // the buffer is used again
  }

  /** Waits until what is being written is written: a source that was stopped may have a piece on its way to the disk. */
  async drain(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing);
  }

  /** Forgets everything, as if nothing had come yet. */
  reset(): void {
    this.#held.clear();
  }

  async discard(): Promise<void> {
    await this.#bytes.close(0);
    await unlink(this.path).catch(() => undefined);
  }

  /** What is held stays for whoever opens the partial file next, if the disk takes it. */
  close(): Promise<void> {
    return this.#bytes.close(this.#held.prefixBytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
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

  /** Takes over what lies in the file: pieces whose SHA-1 fits, or without a torrent the whole length. */
  async #recover(fileBytes: number): Promise<void> {
    if (this.#torrent === undefined) {
      this.#held.addBytes(0, fileBytes, EARLIER_RUN);
      return;
    }
    for (let index = 0; index < this.#held.count; index++) {
      if (this.#held.startOf(index) + this.#held.lengthOf(index) > fileBytes) break;
      if (await this.#fits(index)) this.#held.addPiece(index, EARLIER_RUN);
    }
  }

  async #fits(index: number): Promise<boolean> {
    if (this.#torrent === undefined) return false;
    const bytes = await this.#bytes.read(this.#held.startOf(index), this.#held.lengthOf(index));
    const at = index * PIECE_HASH_BYTES;
    const expected = this.#torrent.pieces.subarray(at, at + PIECE_HASH_BYTES);
    return hash('sha1', bytes, 'hex') === Buffer.from(expected).toString('hex');
  }

  async #fitsTorrent(): Promise<boolean> {
    if (this.#torrent === undefined) return false;
    for (let index = 0; index < this.#held.count; index++) {
      if (!this.#held.isChecked(index) && !(await this.#fits(index))) return false;
    }
    return true;
  }

  /** Pieces that do not fit the torrent; without one all of them. */
  async #badPieces(): Promise<number[]> {
    const bad: number[] = [];
    for (let index = 0; index < this.#held.count; index++) if (!(await this.#fits(index))) bad.push(index);
    return bad;
  }

  async #blame(found: FileHash): Promise<NarswarmError<'HASH_MISMATCH'>> {
    const bad = await this.#badPieces();
    const mapLied = this.#torrent !== undefined && bad.length === 0;
    const origins = this.#held.originsOf(bad);
    if (mapLied || this.#torrent === undefined) this.reset();
    else for (const index of bad) this.#held.forget(index);
    const from = mapLied ? 'the hash map names other bytes' : `bytes came from ${origins.join(', ')}`;
    return new NarswarmError(
      'HASH_MISMATCH',
      `the NAR ${this.#fileHash} is not what its narinfo says: its SHA-256 is ${found} (${from})`,
      {
        facts: { fileHash: this.#fileHash, found, mapLied, origins },
      },
    );
  }
}
