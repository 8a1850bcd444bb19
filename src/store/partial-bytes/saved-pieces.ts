import { copyFile, rm } from 'node:fs/promises';
import { readFileSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { storeError } from '../../disk/store-error.ts';
import { PIECE_HASH_BYTES, pieceLengthOf } from '../../torrent/canonical.ts';

const SUFFIX = '.pieces';

/**
 * The SHA-1 of a NAR's pieces, in a file beside its partial file. A partial file with gaps can be continued by them where
 * its torrent is not known. They are hints like the torrent they come from: the whole NAR is checked by its SHA-256.
 *
 * They are written before the first gap, and do not change while bytes arrive. So a crash at any moment leaves no piece
 * that counts as held and is not.
 */
export class SavedPieces {
  readonly #path: string;
  #saved: Uint8Array | undefined;

  private constructor(path: string, saved: Uint8Array | undefined) {
    this.#path = path;
    this.#saved = saved;
  }

  /** The pieces of a partial file that is about to be begun: none. */
  static none(partialPath: string): SavedPieces {
    return new SavedPieces(pathBeside(partialPath), undefined);
  }

  /** Reads what an earlier run saved, if it can be that of a NAR of this size, and marks it as still in use. */
  static read(partialPath: string, sizeBytes: number): SavedPieces {
    const path = pathBeside(partialPath);
    try {
      const bytes = readFileSync(path);
      const isFitting = bytes.length === Math.ceil(sizeBytes / pieceLengthOf(sizeBytes)) * PIECE_HASH_BYTES;
      if (isFitting) utimesSync(path, new Date(), new Date()); // it is as old as the last run that counts on it
      return new SavedPieces(path, isFitting ? bytes : undefined);
    } catch {
      return SavedPieces.none(partialPath);
    }
  }

  /** Returns true for the name of such a file. */
  static isName(name: string): boolean {
    return name.endsWith(SUFFIX);
  }

  /** Copies what is saved beside one partial file to another one of the same NAR. */
  static async copy(from: string, to: string): Promise<void> {
    await copyFile(pathBeside(from), pathBeside(to)).catch(() => undefined); // mostly there is nothing
  }

  /** Removes what is saved beside a partial file that is not here. */
  static async drop(partialPath: string): Promise<void> {
    await rm(pathBeside(partialPath), { force: true }).catch(() => undefined);
  }

  /** The SHA-1 of all pieces, one after the other, if they are saved. */
  get pieces(): Uint8Array | undefined {
    return this.#saved;
  }

  /** Saves the pieces unless they are. @throws STORE_FULL, STORE_UNWRITABLE */
  save(pieces: Uint8Array): void {
    if (this.#saved !== undefined && (this.#saved === pieces || Buffer.compare(this.#saved, pieces) === 0)) return;
    try {
      writeFileSync(this.#path, pieces);
    } catch (error) {
      throw storeError(error, this.#path);
    }
    this.#saved = pieces;
  }

  /** Removes the file, if there is one: the partial file is complete, or dropped. */
  remove(): void {
    if (this.#saved === undefined) return;
    this.#saved = undefined;
    try {
      unlinkSync(this.#path);
    } catch {
      // it goes with its folder
    }
  }
}

function pathBeside(partialPath: string): string {
  return `${partialPath}${SUFFIX}`;
}
