import { pieceLengthOf } from '../../torrent/canonical.ts';

/** The held pieces of a file, as a bitmap. The first piece is the highest bit of the first byte. */
export class PieceSet {
  readonly sizeBytes: number;
  readonly pieceLength: number;
  /** Number of pieces of the whole file. */
  readonly total: number;
  readonly bitmap: Uint8Array;
  #count = 0;

  /**
   * @param sizeBytes size of the file
   * @param bitmap is taken over, without a copy. Bits after the last piece are cleared
   * @throws RangeError if the bitmap has the wrong length
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

  /** Number of pieces in the set. */
  get count(): number {
    return this.#count;
  }

  has(index: number): boolean {
    return ((this.bitmap[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  /** Returns true if the set has all pieces of the bytes `[from, from + length)`; `length` is above 0. */
  hasRange(from: number, length: number): boolean {
    if (from + length > this.sizeBytes) return false;
    const last = Math.floor((from + length - 1) / this.pieceLength);
    for (let index = Math.floor(from / this.pieceLength); index <= last; index++) if (!this.has(index)) return false;
    return true;
  }

  /** Adds a piece. Ignores a piece that the file does not have. */
  add(index: number): void {
    if (index >= this.total || this.has(index)) return;
    this.bitmap[index >> 3]! |= 0x80 >> (index & 7);
    this.#count++;
  }
}
