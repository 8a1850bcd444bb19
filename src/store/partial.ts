import { unlink } from 'node:fs/promises';
import { NarswarmError } from '../errors.ts';
import { HashThread } from '../bytes/hash-thread.ts';
import type { FileHash } from '../nix/brands.ts';
import { pieceLengthOf, type NarTorrent } from '../torrent/canonical.ts';
import type { PartialBytes } from './partial-bytes/bytes.ts';
import { EARLIER_RUN, HeldPieces, type Origin, type Range } from './partial-bytes/held-pieces.ts';
import { BytesInFile } from './partial-bytes/in-file.ts';
import { BytesInMemory } from './partial-bytes/in-memory.ts';
import { PieceCheck } from './partial-bytes/piece-check.ts';
import { SavedPieces } from './partial-bytes/saved-pieces.ts';
import { Settlement, type SettleOptions } from './partial-bytes/settlement.ts';
import { storeError } from '../disk/store-error.ts';

export type { Origin, Range } from './partial-bytes/held-pieces.ts';
export type { SettleOptions } from './partial-bytes/settlement.ts';

/** NARs up to this size wait in memory. They are written to a file only if they are closed before they are complete. */
const MEMORY_BYTES = 1 << 20;

/** The expected NAR file. */
interface Expected {
  /** Bytes of the whole file. */
  readonly sizeBytes: number;
  /** SHA-256 of the whole file. */
  readonly fileHash: FileHash;
  readonly torrent?: NarTorrent | undefined;
}

/**
 * A NAR that is arriving in the store. Sources write into it, one after another or several at once. {@link settle}
 * checks size and SHA-256, and only then renames it to its place.
 *
 * With a torrent, pieces may come in any order. Their SHA-1 hashes are saved beside the file, and a later run finds the
 * good pieces by them, even without the torrent. If no hashes are known, bytes come in order, and the length of the file
 * is the number of held bytes. Only after wrong bytes were dropped from the middle, a file beside it has that number.
 */
export class PartialNar implements AsyncDisposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #saved: SavedPieces;
  readonly #held: HeldPieces;
  readonly #bytes: PartialBytes;
  readonly #check: PieceCheck;
  readonly #settlement: Settlement;
  readonly #writing = new Set<Promise<void>>();
  /** True once an unchecked piece was written. Then the file is not read again to check it against its torrent. */
  #mayMisfit = false;
  #onGrowth: (() => void) | undefined;

  private constructor(
    path: string,
    { sizeBytes, fileHash, torrent }: Expected,
    bytes: PartialBytes,
    saved = SavedPieces.none(path),
  ) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#saved = saved;
    this.#held = new HeldPieces(sizeBytes, pieceLengthOf(sizeBytes));
    this.#bytes = bytes;
    this.#check = new PieceCheck(torrent?.pieces ?? saved.pieces, this.#held, bytes);
    const { isInMemory } = this;
    const [held, check] = [this.#held, this.#check];
    this.#settlement = new Settlement({ fileHash, saved, held, bytes, check, isInMemory });
  }

  /**
   * Opens the partial file at `path`, and takes over the bytes of an earlier run.
   *
   * @param expected size in bytes and SHA-256 of the whole NAR file, and its torrent if known
   * @param leftovers paths of the existing partial files. A small NAR looks only for these, and adds the one that it
   *   writes
   * @param thread hashes and writes. Default: all of it is done on this thread
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  static async open(
    path: string,
    expected: Expected,
    leftovers = new Set<string>(),
    thread = new HashThread(),
  ): Promise<PartialNar> {
    const { sizeBytes } = expected;
    if (sizeBytes <= MEMORY_BYTES) {
      const memory = new BytesInMemory(path, sizeBytes, leftovers, thread);
      const isLeft = leftovers.has(path);
      const small = new PartialNar(path, expected, memory, isLeft ? SavedPieces.read(path, sizeBytes) : undefined);
      if (isLeft) await small.#recover(await memory.takeOver());
      return small;
    }
    const file = await BytesInFile.open(path, sizeBytes, thread);
    try {
      const foundBytes = await file.foundBytes();
      const saved = foundBytes > 0 ? SavedPieces.read(path, sizeBytes) : undefined;
      const partial = new PartialNar(path, expected, file, saved);
      await partial.#recover(foundBytes);
      return partial;
    } catch (error) {
      await file.close();
      throw storeError(error, path);
    }
  }

  get pieceCount(): number {
    return this.#held.count;
  }

  /** SHA-1 of all pieces, one after another: from the torrent, or from an earlier run. Undefined if unknown. */
  get pieces(): Uint8Array | undefined {
    return this.#check.pieces;
  }

  /**
   * Learns the SHA-1 of all pieces, since the torrent came late. Held bytes count as before: if the whole turns out to be
   * wrong, only bad pieces are dropped.
   *
   * @returns false if an earlier run has saved other hashes: then these stay
   */
  learn(pieces: Uint8Array): boolean {
    return this.#check.learn(pieces);
  }

  /** Returns true if piece `index` is complete. */
  has(index: number): boolean {
    return this.#held.has(index);
  }

  /** Held bytes, at most {@link sizeBytes}. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** Held bytes from the front without a gap. */
  get frontBytes(): number {
    return this.#held.prefixBytes;
  }

  /** True after wrong bytes, while those of trusted senders are kept. If it is wrong again, all are dropped. */
  get isDoubted(): boolean {
    return this.#settlement.isDoubted;
  }

  /** True if the bytes are in memory, and not in a file. */
  get isInMemory(): boolean {
    return this.sizeBytes <= MEMORY_BYTES;
  }

  /** Calls `onGrowth` each time that bytes are written. */
  follow(onGrowth: () => void): void {
    this.#onGrowth = onGrowth;
  }

  /** Returns the missing ranges, in order; adjacent ones are joined. */
  missing(): Range[] {
    return this.#held.missing();
  }

  /**
   * Writes a whole piece from a peer. Takes over the buffer of a NAR of one piece, without a copy.
   *
   * @param isChecked true if its SHA-1 was checked. With an unchecked piece, the NAR is not known to match its torrent
   */
  putPiece(index: number, bytes: Uint8Array, origin: Origin, isChecked = true): Promise<void> {
    return this.#track(this.#putPiece(index, bytes, origin, isChecked));
  }

  async #putPiece(index: number, bytes: Uint8Array, origin: Origin, isChecked: boolean): Promise<void> {
    if (this.has(index)) return;
    this.#savePieces(this.#held.startOf(index));
    await this.#bytes.writePiece(this.#held.startOf(index), bytes);
    this.#held.addPiece(index, origin, isChecked);
    if (!isChecked) this.#mayMisfit = true;
  }

  /**
   * Writes adjacent chunks from an HTTP server. They must begin at the start of a range of {@link missing}.
   *
   * @throws SIZE_MISMATCH, before anything is written, if they reach beyond the NAR; STORE_FULL, STORE_UNWRITABLE
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
    this.#savePieces(offset);
    await this.#bytes.write(offset, chunks, length);
    this.#held.addBytes(offset, length, origin);
  }

  /** Reads a held range for a peer. The sender must give the buffer back. */
  read(offset: number, length: number): Promise<Uint8Array> {
    return this.#bytes.lend(offset, length);
  }

  /**
   * Checks the size and the SHA-256 of the whole file, then moves it to `target`. Nothing is at `target` before that.
   *
   * @returns true if every piece is known to match the torrent. Otherwise a hash map may have named a wrong torrent,
   *   and the file must not be given to others by it
   * @throws HASH_MISMATCH if the bytes are not those of the NAR. Bad bytes are dropped, so that {@link missing} returns
   *   them for another fetch. `facts.mapLied` is true if every piece matches the torrent: then the hash map named other
   *   bytes, and no source is to blame. `facts.origins` names the sources of dropped bytes.
   */
  async settle(target: string, options: SettleOptions = {}): Promise<boolean> {
    await this.drain();
    if (this.missing().length > 0)
      throw new NarswarmError('SIZE_MISMATCH', `${this.path} is not complete`, { facts: { path: this.path } });
    return this.#settlement.settle(target, { ...options, mayFit: !this.#mayMisfit });
  }

  /** Returns the first bytes of a complete NAR. */
  async head(length: number): Promise<Uint8Array> {
    return (await this.#bytes.read(0, Math.min(length, this.sizeBytes))).slice(); // the buffer is used again
  }

  /** Waits for running writes: a stopped source may still have a piece on its way to the disk. */
  async drain(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing);
  }

  /** Drops the bytes of a liar, and what follows them in the same piece. Nothing may be written meanwhile. */
  async dropFrom(liar: Origin): Promise<void> {
    await this.drain();
    await this.#settlement.dropFrom(liar);
  }

  /** Returns the number of bytes from the front that all come from trusted senders. */
  frontFrom(isTrusted: (origin: Origin) => boolean): number {
    return this.#held.prefixFrom(isTrusted);
  }

  /** Drops all bytes. */
  reset(): void {
    this.#held.clear();
  }

  async discard(): Promise<void> {
    await this.#bytes.close(0);
    await unlink(this.path).catch(() => undefined);
    this.#saved.remove();
  }

  /** Closes the NAR. If the disk has room, keeps the held bytes for the next process that opens the partial file. */
  close(): Promise<void> {
    const { prefixBytes, endBytes } = this.#held;
    this.#saved.mayMoveFront(prefixBytes);
    return this.#bytes.close(endBytes > prefixBytes && this.#canSavePieces() ? endBytes : prefixBytes);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Counts a write as running until it ends, for {@link drain}. */
  async #track(writing: Promise<void>): Promise<void> {
    this.#writing.add(writing);
    try {
      await writing;
      this.#onGrowth?.();
    } finally {
      this.#writing.delete(writing);
    }
  }

  /**
   * Saves the hashes of the pieces before bytes at `offset` leave a gap in the file. Without a gap, the file's length is
   * enough.
   */
  #savePieces(offset: number): void {
    if (this.isInMemory || this.pieces === undefined || offset <= this.#held.prefixBytes) return;
    this.#saved.save(this.pieces);
  }

  /** Saves the hashes of the pieces if the disk takes them. Otherwise the bytes after the gap are fetched again. */
  #canSavePieces(): boolean {
    return this.pieces !== undefined && this.#saved.maySave(this.pieces);
  }

  /** Takes over the bytes in the file: pieces with the right SHA-1, or the whole length if no hashes are known. */
  async #recover(fileBytes: number): Promise<void> {
    if (this.pieces === undefined) {
      const heldBytes = Math.min(fileBytes, this.#saved.frontBytes ?? fileBytes);
      if (heldBytes < fileBytes) await this.#bytes.cut(heldBytes);
      this.#saved.remove();
      this.#held.addBytes(0, heldBytes, EARLIER_RUN);
      return;
    }
    for (let index = 0; index < this.#held.count; index++) {
      const start = this.#held.startOf(index);
      const tornBytes = Math.max(0, fileBytes - start);
      if (tornBytes < this.#held.lengthOf(index)) {
        this.#held.addBytes(start, tornBytes, EARLIER_RUN); // nobody can check it yet
        break;
      }
      if (!(await this.#check.fits(index))) continue;
      this.#savePieces(start);
      this.#held.addPiece(index, EARLIER_RUN);
    }
  }
}
