/** The source of a piece's bytes. It is named if they are wrong. */
export type Origin = string;

export const EARLIER_RUN: Origin = 'an earlier run';

/** A range of bytes, `[from, to)`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** The end of the bytes that one sender has given of a piece. They begin where those before them in the piece end. */
interface Part {
  readonly origin: Origin;
  readonly to: number;
}

/**
 * The held pieces of a NAR, and their senders. Pieces come whole from peers, or from the front by HTTP. Does not know
 * where the bytes are stored.
 */
export class HeldPieces {
  readonly #sizeBytes: number;
  readonly #pieceBytes: number;
  /** Held bytes of each piece. They are its first ones. */
  readonly #held: Uint32Array;
  /** The senders of the held bytes of each piece, in the order of the bytes. */
  readonly #parts: (readonly Part[])[] = [];
  /** Pieces whose SHA-1 is known to be right. */
  readonly #checked = new Set<number>();
  #bytes = 0;
  /** A piece before which all are held. */
  #front = 0;

  /** @param pieceBytes bytes of every piece; the last one may be shorter */
  constructor(sizeBytes: number, pieceBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#pieceBytes = pieceBytes;
    const pieces = Math.max(1, Math.ceil(sizeBytes / pieceBytes));
    this.#held = new Uint32Array(pieces);
  }

  /** Number of pieces of the NAR. */
  get count(): number {
    return this.#held.length;
  }

  /** Held bytes of all pieces. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Held bytes from the front without a gap. */
  get prefixBytes(): number {
    const front = this.#findFront();
    return front === this.count ? this.#sizeBytes : this.startOf(front) + (this.#held[front] ?? 0);
  }

  /** Offset after the last held byte. */
  get endBytes(): number {
    const last = this.#held.findLastIndex((bytes) => bytes > 0);
    return last === -1 ? 0 : this.startOf(last) + (this.#held[last] ?? 0);
  }

  /** Returns the offset of piece `index`. */
  startOf(index: number): number {
    return index * this.#pieceBytes;
  }

  lengthOf(index: number): number {
    return Math.min(this.#pieceBytes, this.#sizeBytes - index * this.#pieceBytes);
  }

  /** Returns true if piece `index` is complete. */
  has(index: number): boolean {
    return this.#held[index] === this.lengthOf(index);
  }

  /** Returns true if the SHA-1 of piece `index` is known to be right. */
  isChecked(index: number): boolean {
    return this.#checked.has(index);
  }

  /** Returns the missing ranges, in order; adjacent ones are joined. */
  missing(): Range[] {
    const ranges: { from: number; to: number }[] = [];
    for (let index = this.#findFront(); index < this.#held.length; index++) {
      const start = index * this.#pieceBytes;
      const from = start + (this.#held[index] ?? 0);
      const to = start + this.lengthOf(index);
      if (from === to) continue;
      const last = ranges.at(-1);
      if (last?.to === from) last.to = to;
      else ranges.push({ from, to });
    }
    return ranges;
  }

  /** Records a whole piece. @param isChecked true if its SHA-1 was checked */
  addPiece(index: number, origin: Origin, isChecked = true): void {
    this.#hold(index, this.lengthOf(index));
    this.#parts[index] = [{ origin, to: this.startOf(index) + this.lengthOf(index) }];
    if (isChecked) this.#checked.add(index);
    else this.#checked.delete(index);
  }

  /** Records unchecked bytes. They must begin at the start of a range of {@link missing}. */
  addBytes(offset: number, length: number, origin: Origin): void {
    for (let at = offset; at < offset + length;) {
      const index = Math.floor(at / this.#pieceBytes);
      const start = index * this.#pieceBytes;
      const end = Math.min(start + this.lengthOf(index), offset + length);
      const before = this.#partsOf(index);
      const others = before.at(-1)?.origin === origin ? before.slice(0, -1) : before;
      this.#parts[index] = [...others, { origin, to: end }];
      this.#hold(index, Math.max(this.#held[index] ?? 0, end - start));
      this.#checked.delete(index);
      at = end;
    }
  }

  /** Returns the senders of these pieces, without repetition, in the order of the pieces. */
  originsOf(pieces: readonly number[]): Origin[] {
    return [...new Set(pieces.flatMap((index) => this.#partsOf(index).map(({ origin }) => origin)))];
  }

  /** Drops one piece. */
  forget(index: number): void {
    this.#keep(index, []);
  }

  /** Drops the bytes of all other senders, and the bytes behind them in the same piece. */
  forgetExcept(isTrusted: (origin: Origin) => boolean): void {
    for (let index = 0; index < this.count; index++) {
      const parts = this.#partsOf(index);
      const first = parts.findIndex(({ origin }) => !isTrusted(origin));
      if (first !== -1) this.#keep(index, parts.slice(0, first));
    }
  }

  /** Returns the number of bytes from the front, without a gap, that all come from trusted senders. */
  prefixFrom(isTrusted: (origin: Origin) => boolean): number {
    const { prefixBytes } = this;
    for (let index = 0; this.startOf(index) < prefixBytes; index++) {
      const parts = this.#partsOf(index);
      const first = parts.findIndex(({ origin }) => !isTrusted(origin));
      if (first !== -1) return parts[first - 1]?.to ?? this.startOf(index);
    }
    return prefixBytes;
  }

  /** Drops all pieces. */
  clear(): void {
    this.#held.fill(0);
    this.#bytes = 0;
    this.#front = 0;
    this.#parts.length = 0;
    this.#checked.clear();
  }

  /** Returns the first incomplete piece. */
  #findFront(): number {
    while (this.#front < this.count && this.has(this.#front)) this.#front++;
    return this.#front;
  }

  #hold(index: number, bytes: number): void {
    this.#bytes += bytes - (this.#held[index] ?? 0);
    this.#held[index] = bytes;
    if (bytes < this.lengthOf(index)) this.#front = Math.min(this.#front, index);
  }

  #keep(index: number, parts: readonly Part[]): void {
    this.#parts[index] = parts;
    this.#hold(index, (parts.at(-1)?.to ?? this.startOf(index)) - this.startOf(index));
    this.#checked.delete(index);
  }

  #partsOf(index: number): readonly Part[] {
    return this.#parts[index] ?? [];
  }
}
