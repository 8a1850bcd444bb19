import type { FileHash } from '../../nix/brands.ts';

/** Where the bytes of a NAR lie until it is known to be good. */
export interface PartialBytes {
  /** Writes a whole piece. A buffer that holds the whole NAR is left to us: it needs no copy. */
  writePiece(offset: number, bytes: Uint8Array): void | Promise<void>;
  /** Writes chunks that follow each other, `length` bytes in all. @throws STORE_FULL, STORE_UNWRITABLE */
  write(offset: number, chunks: readonly Uint8Array[], length: number): void | Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Reads a stretch for somebody who gives it back (lent-buffers.ts). */
  lend(offset: number, length: number): Promise<Uint8Array>;
  /** Computes the SHA-256 of the whole. @throws STORE_FULL, STORE_UNWRITABLE */
  check(): Promise<FileHash>;
  /** Puts what was found good at `target`, and lets go of it. @throws as {@link check} */
  finish(target: string): void | Promise<void>;
  /** Has the whole lie in its partial file. @returns that file's path @throws as {@link check} */
  toFile(): Promise<string>;
  /** Moves the file of {@link toFile} to `target` and lets go of it. @throws as {@link check} */
  moveTo(target: string): Promise<void>;
  /**
   * Closes what is open. Of bytes in memory that are at no target yet, the first `heldBytes` go to the partial file, if it
   * takes them.
   */
  close(heldBytes: number): Promise<void>;
}
