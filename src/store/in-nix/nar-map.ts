/**
 * The map of a NAR: which of its bytes are contents of which file, and all other bytes. Without I/O. The format is that of
 * Nix (src/libutil/archive.cc; Nix manual, "Nix Archive (NAR) format").
 */

/** Alignment of every string in a NAR. */
const ALIGNMENT = 8;
/** Memory of the numbers of one file: three of 64 bits, one of 32. */
const NUMBERS_BYTES = 28;

/** A stretch of a NAR: bytes of the map itself, or a part of a file. */
export type Stretch =
  | { readonly at: number; readonly bytes: Uint8Array }
  | { readonly at: number; readonly file: MappedFile; readonly from: number; readonly length: number };

/** A regular file of the tree, above 0 bytes. */
export interface MappedFile {
  /** Path below the root of the tree, in bytes, since names need not be UTF-8. Empty if the root is the file. */
  readonly path: Buffer;
  readonly sizeBytes: number;
}

/** The map of one NAR. Takes about 250 bytes for each file. */
export class NarMap {
  /** Bytes of the NAR. */
  readonly narSize: number;
  /** All bytes of the NAR that are no contents of a file, in order. */
  readonly #text: Buffer;
  /** For each file: the number of these bytes before it, and the offset of its contents in the NAR. */
  readonly #textEnds: Float64Array;
  readonly #starts: Float64Array;
  readonly #sizes: Float64Array;
  /** The paths of the files, and where each ends. */
  readonly #paths: Buffer;
  readonly #pathEnds: Uint32Array;

  /** @param parts all lists have a number for each file */
  constructor(parts: {
    readonly text: Buffer;
    readonly paths: Buffer;
    readonly textEnds: readonly number[];
    readonly sizes: readonly number[];
    readonly pathEnds: readonly number[];
  }) {
    this.#text = parts.text;
    this.#paths = parts.paths;
    this.#textEnds = Float64Array.from(parts.textEnds);
    this.#sizes = Float64Array.from(parts.sizes);
    this.#pathEnds = Uint32Array.from(parts.pathEnds);
    let contentBytes = 0;
    this.#starts = this.#textEnds.map((textEnd, index) => {
      const start = textEnd + contentBytes;
      contentBytes += this.#sizes[index]!;
      return start;
    });
    this.narSize = this.#text.length + contentBytes;
  }

  /** Bytes of memory that it takes. */
  get memoryBytes(): number {
    return this.#text.length + this.#paths.length + NUMBERS_BYTES * this.#sizes.length;
  }

  /** Number of files with contents. */
  get fileCount(): number {
    return this.#sizes.length;
  }

  /** Yields the stretches of the bytes `[from, from + length)` of the NAR, in order; `at` counts from `from`. */
  *stretches(from: number, length: number): Generator<Stretch> {
    const end = from + length;
    if (from < 0 || end > this.narSize) throw new RangeError('the NAR is shorter');
    let index = this.#lastBefore(from); // -1: before the first file
    for (let at = from; at < end;) {
      const start = this.#starts[index] ?? 0;
      const size = this.#sizes[index] ?? 0;
      if (at < start + size) {
        const bytes = Math.min(start + size, end) - at;
        yield { at: at - from, file: this.#file(index), from: at - start, length: bytes };
        at += bytes;
        continue;
      }
      const textAt = (this.#textEnds[index] ?? 0) + (at - start - size);
      const textEnd = this.#textEnds[index + 1] ?? this.#text.length;
      const bytes = this.#text.subarray(textAt, Math.min(textEnd, textAt + end - at));
      if (bytes.length > 0) yield { at: at - from, bytes };
      at += bytes.length;
      if (textAt + bytes.length === textEnd) index++;
    }
  }

  /** Returns the index of the last file that begins at an offset or before it. -1 if there is none. */
  #lastBefore(offset: number): number {
    let [low, high] = [0, this.#starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #file(index: number): MappedFile {
    const from = index === 0 ? 0 : this.#pathEnds[index - 1];
    return { path: this.#paths.subarray(from, this.#pathEnds[index]), sizeBytes: this.#sizes[index]! };
  }
}

/** Builds a map by the words of the format, in the order of the NAR. */
export class NarMapBuilder {
  readonly #text = new GrowingBytes();
  readonly #paths = new GrowingBytes();
  readonly #textEnds: number[] = [];
  readonly #sizes: number[] = [];
  readonly #pathEnds: number[] = [];

  constructor() {
    this.strings('nix-archive-1');
  }

  /** Bytes that the map takes so far. */
  get memoryBytes(): number {
    return this.#text.length + this.#paths.length + NUMBERS_BYTES * this.#sizes.length;
  }

  /** Adds strings of the format: length, bytes, padding. */
  strings(...strings: readonly (string | Buffer)[]): void {
    for (const string of strings) {
      const bytes = Buffer.from(string);
      this.#text.addNumber(bytes.length);
      this.#text.add(bytes);
      this.#text.addZeros(paddingOf(bytes.length));
    }
  }

  /** Adds the contents of a file, as a string of the format. */
  contents({ path, sizeBytes }: MappedFile): void {
    this.#text.addNumber(sizeBytes);
    if (sizeBytes === 0) return;
    this.#paths.add(path);
    this.#textEnds.push(this.#text.length);
    this.#sizes.push(sizeBytes);
    this.#pathEnds.push(this.#paths.length);
    this.#text.addZeros(paddingOf(sizeBytes));
  }

  build(): NarMap {
    const [text, paths] = [this.#text.take(), this.#paths.take()];
    return new NarMap({ text, paths, textEnds: this.#textEnds, sizes: this.#sizes, pathEnds: this.#pathEnds });
  }
}

/** Bytes in one buffer that grows: a buffer for each string would take ten times their memory. */
class GrowingBytes {
  #bytes = Buffer.alloc(1024);
  length = 0;

  add(more: Uint8Array): void {
    this.#ensure(more.length);
    this.#bytes.set(more, this.length);
    this.length += more.length;
  }

  addNumber(value: number): void {
    this.#ensure(ALIGNMENT);
    this.#bytes.writeBigUInt64LE(BigInt(value), this.length);
    this.length += ALIGNMENT;
  }

  addZeros(count: number): void {
    this.#ensure(count); // the rest is zeros
    this.length += count;
  }

  /** Returns a copy of the bytes, without spare room. */
  take(): Buffer {
    return Buffer.copyBytesFrom(this.#bytes, 0, this.length);
  }

  #ensure(more: number): void {
    if (this.length + more <= this.#bytes.length) return;
    const larger = Buffer.alloc(Math.max(2 * this.#bytes.length, this.length + more));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }
}

function paddingOf(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
}
