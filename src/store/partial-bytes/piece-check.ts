import { hash } from 'node:crypto';
import { PIECE_HASH_BYTES } from '../../torrent/canonical.ts';
import type { PartialBytes } from './bytes.ts';
import type { HeldPieces } from './held-pieces.ts';

/** Reads the pieces of an arriving NAR again, and checks them against the SHA-1 hashes of its torrent. */
export class PieceCheck {
  #pieces: Uint8Array | undefined;
  readonly #held: HeldPieces;
  readonly #bytes: PartialBytes;

  /** @param pieces SHA-1 of all pieces, one after another. Undefined: unknown, so no piece fits */
  constructor(pieces: Uint8Array | undefined, held: HeldPieces, bytes: PartialBytes) {
    this.#pieces = pieces;
    this.#held = held;
    this.#bytes = bytes;
  }

  /** SHA-1 of all pieces, one after another. Undefined if unknown. */
  get pieces(): Uint8Array | undefined {
    return this.#pieces;
  }

  /** Learns the hashes if none are known. @returns false if other ones are known */
  learn(pieces: Uint8Array): boolean {
    this.#pieces ??= pieces;
    return Buffer.compare(this.#pieces, pieces) === 0;
  }

  /** Returns true if a piece in the file has the SHA-1 of the torrent. */
  async fits(index: number): Promise<boolean> {
    if (this.#pieces === undefined) return false;
    const bytes = await this.#bytes.read(this.#held.startOf(index), this.#held.lengthOf(index));
    const at = index * PIECE_HASH_BYTES;
    const expected = this.#pieces.subarray(at, at + PIECE_HASH_BYTES);
    return hash('sha1', bytes, 'hex') === Buffer.from(expected).toString('hex');
  }

  /**
   * Returns true if all pieces match the torrent.
   *
   * @param options.readsPieces true to read those that were not checked when they came. Otherwise they do not match
   */
  async fitsTorrent({ readsPieces }: { readonly readsPieces: boolean }): Promise<boolean> {
    if (this.#pieces === undefined) return false;
    for (let index = 0; index < this.#held.count; index++) {
      if (!this.#held.isChecked(index) && !(readsPieces && (await this.fits(index)))) return false;
    }
    return true;
  }

  /** Returns the pieces that do not match the torrent; all pieces if there is no torrent. */
  async badPieces(): Promise<number[]> {
    const bad: number[] = [];
    for (let index = 0; index < this.#held.count; index++) if (!(await this.fits(index))) bad.push(index);
    return bad;
  }
}
