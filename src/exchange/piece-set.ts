import { pieceLengthOf } from '../torrent/canonical.ts';

/** The pieces of one file that somebody has, as a bitmap: the first piece is the highest bit of the first byte. */
export class PieceSet {
  readonly sizeBytes: number;
  readonly pieceLength: number;
  /** Pieces of the whole file. */
  readonly total: number;
  readonly bitmap: Uint8Array;
  #count = 0;

  /**
   * @param sizeBytes of the file
   * @param bitmap which becomes this set's; bits behind the last piece are cleared
   * @throws RangeError if the bitmap is not of that many pieces
   */
  constructor(sizeBytes: number, bitmap?: Uint8Array) {
    this.sizeBytes = sizeBytes;
    this.pieceLength = pieceLengthOf(sizeBytes);
    this.total = Math.ceil(sizeBytes / this.pieceLength);
    this.bitmap = bitmap ?? new Uint8Array(Math.ceil(this.total / 8));
    if (this.bitmap.length !== Math.ceil(this.total / 8)) throw new RangeError(`not a bitmap of ${this.total} pieces`);
    for (let index = this.total; index < this.bitmap.length * 8; index++)
      this.bitmap[index >> 3]! &= ~(0x80 >> (index & 7));
    for (const byte of this.bitmap) for (let bits = byte; bits > 0; bits &= bits - 1) this.#count++;
  }

  /** Pieces in the set. */
  get count(): number {
    return this.#count;
  }

  has(index: number): boolean {
    return ((this.bitmap[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  /** True if all pieces are there that bytes `[from, from + length)` are of; `length` above 0. */
  hasRange(from: number, length: number): boolean {
    if (from + length > this.sizeBytes) return false;
    const last = Math.floor((from + length - 1) / this.pieceLength);
    for (let index = Math.floor(from / this.pieceLength); index <= last; index++) if (!this.has(index)) return false;
    return true;
  }

  /** Adds a piece; one that the file has not is left out. */
  add(index: number): void {
    if (index >= this.total || this.has(index)) return;
    this.bitmap[index >> 3]! |= 0x80 >> (index & 7);
    this.#count++;
  }
}
