import { copyFile, rm } from 'node:fs/promises';
import { existsSync, readFileSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { storeError } from '../../disk/store-error.ts';
import { PIECE_HASH_BYTES, pieceLengthOf } from '../../torrent/canonical.ts';

const SUFFIX = '.pieces';
/** Bytes of a file with a number instead of hashes, which take a multiple of 20. */
const NUMBER_BYTES = 8;

/**
 * The SHA-1 hashes of a NAR's pieces, in a file beside its partial file. With them, a partial file with gaps can be
 * continued even if its torrent is unknown. They are hints, as the torrent is: the whole NAR is checked by its SHA-256.
 *
 * The file is written before the first gap, and does not change while bytes arrive. So after a crash at any moment, no
 * missing piece counts as held.
 *
 * If no hashes are known, and wrong bytes were dropped, the file has the number of bytes before the gap instead: the
 * rest could not be checked.
 */
export class SavedPieces {
  readonly #path: string;
  #saved: Uint8Array | undefined;
  #frontBytes: number | undefined;

  private constructor(path: string, saved?: Uint8Array, frontBytes?: number) {
    this.#path = path;
    this.#saved = saved;
    this.#frontBytes = frontBytes;
  }

  /** Returns the hashes of a new partial file: none. */
  static none(partialPath: string): SavedPieces {
    return new SavedPieces(pathBeside(partialPath));
  }

  /** Reads the hashes that an earlier run saved, if they fit a NAR of this size. Marks the file as still in use. */
  static read(partialPath: string, sizeBytes: number): SavedPieces {
    const path = pathBeside(partialPath);
    try {
      const bytes = readFileSync(path);
      if (bytes.length === NUMBER_BYTES) return new SavedPieces(path, undefined, Number(bytes.readBigUInt64LE()));
      const isFitting = bytes.length === Math.ceil(sizeBytes / pieceLengthOf(sizeBytes)) * PIECE_HASH_BYTES;
      if (isFitting) utimesSync(path, new Date(), new Date()); // its age counts from the last run that used it
      return new SavedPieces(path, isFitting ? bytes : undefined);
    } catch {
      return SavedPieces.none(partialPath);
    }
  }

  /** Returns true if hashes of this partial file are saved. Then it may have gaps. */
  static exist(partialPath: string): boolean {
    return existsSync(pathBeside(partialPath));
  }

  /** Returns true for the name of a file with hashes. */
  static isName(name: string): boolean {
    return name.endsWith(SUFFIX);
  }

  /** Copies the hashes of one partial file to another one of the same NAR. */
  static async copy(from: string, to: string): Promise<void> {
    await copyFile(pathBeside(from), pathBeside(to)).catch(() => undefined); // usually there is no such file
  }

  /** Removes the hashes of a partial file that is not here. */
  static async drop(partialPath: string): Promise<void> {
    await rm(pathBeside(partialPath), { force: true }).catch(() => undefined);
  }

  /** SHA-1 of all pieces, one after another. Undefined if none are saved. */
  get pieces(): Uint8Array | undefined {
    return this.#saved;
  }

  /** Bytes before the first gap. Undefined unless there is a gap and no hashes are known. */
  get frontBytes(): number | undefined {
    return this.#frontBytes;
  }

  /** Saves the hashes unless the same ones are saved. @throws STORE_FULL, STORE_UNWRITABLE */
  save(pieces: Uint8Array): void {
    if (this.#saved !== undefined && (this.#saved === pieces || Buffer.compare(this.#saved, pieces) === 0)) return;
    this.#write(pieces);
    this.#saved = pieces;
    this.#frontBytes = undefined;
  }

  /** Saves the hashes as {@link save} does. @returns false if the disk does not take them */
  maySave(pieces: Uint8Array): boolean {
    try {
      this.save(pieces);
      return true;
    } catch {
      return false;
    }
  }

  /** Saves the number of bytes before the first gap. @throws as {@link save} */
  saveFront(frontBytes: number): void {
    const bytes = Buffer.alloc(NUMBER_BYTES);
    bytes.writeBigUInt64LE(BigInt(frontBytes));
    this.#write(bytes);
    this.#frontBytes = frontBytes;
  }

  /** Saves the number again, if there is one and the disk takes it. */
  mayMoveFront(frontBytes: number): void {
    try {
      if (this.#frontBytes !== undefined && this.#frontBytes !== frontBytes) this.saveFront(frontBytes);
    } catch {
      // The bytes since then are fetched again.
    }
  }

  /** Removes the file, if there is one. Call it when the partial file is complete or dropped. */
  remove(): void {
    if (this.#saved === undefined && this.#frontBytes === undefined) return;
    this.#saved = undefined;
    this.#frontBytes = undefined;
    try {
      unlinkSync(this.#path);
    } catch {
      // It is removed with its folder.
    }
  }

  #write(bytes: Uint8Array): void {
    try {
      writeFileSync(this.#path, bytes);
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }
}

function pathBeside(partialPath: string): string {
  return `${partialPath}${SUFFIX}`;
}
