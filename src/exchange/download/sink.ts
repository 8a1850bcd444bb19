import type { WantedFile } from '../member.ts';

/** A range of bytes, `[from, to)`. */
interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** The target of a file's bytes. */
export interface Sink {
  missing(): readonly Stretch[];
  /**
   * Writes a whole piece. If the file has one piece, keeps its buffer without a copy.
   *
   * @param isChecked true if its SHA-1 was checked. Default: true
   */
  putPiece(index: number, bytes: Uint8Array, origin: string, isChecked?: boolean): Promise<void>;
  /** Writes bytes that follow a held one. */
  write(offset: number, chunks: readonly Uint8Array[], origin: string): Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Drops the bytes of a liar. Called while nothing is written. */
  dropFrom(origin: string): Promise<void>;
}

/** A file to fetch from members. */
export interface DownloadFile extends WantedFile {
  readonly sizeBytes: number;
  /** SHA-1 of all pieces, one after another. Undefined if no hash map has them. */
  readonly pieces?: Uint8Array | undefined;
  /** True if the rest of it may come only from members that have given right bytes. Default: false. */
  readonly isDoubted?: boolean;
}
