import type { FileHash } from '../../nix/brands.ts';

/** Storage for the bytes of a NAR until it is known to be good. */
export interface PartialBytes {
  /** Writes a whole piece. Takes over a buffer that holds the whole NAR, without a copy. */
  writePiece(offset: number, bytes: Uint8Array): void | Promise<void>;
  /** Writes adjacent chunks, `length` bytes in all. @throws STORE_FULL, STORE_UNWRITABLE */
  write(offset: number, chunks: readonly Uint8Array[], length: number): void | Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Reads a range into a lent buffer, which the caller gives back (lent-buffers.ts). */
  lend(offset: number, length: number): Promise<Uint8Array>;
  /** Computes the SHA-256 of the whole, which should be `expected`. @throws STORE_FULL, STORE_UNWRITABLE */
  check(expected: FileHash): Promise<FileHash>;
  /** Puts a good NAR at `target` and releases the bytes. @throws as {@link check} */
  finish(target: string): void | Promise<void>;
  /** Removes the bytes from `lengthBytes` on from the partial file, which the next run may take over. @throws as {@link check} */
  cut(lengthBytes: number): void | Promise<void>;
  /** Writes the whole NAR to its partial file. @returns that file's path @throws as {@link check} */
  toFile(): Promise<string>;
  /** Moves the file of {@link toFile} to `target` and releases the bytes. @throws as {@link check} */
  moveTo(target: string): Promise<void>;
  /**
   * Closes everything. Writes the first `heldBytes` of unfinished bytes in memory to the partial file, if the disk
   * takes them.
   */
  close(heldBytes: number): Promise<void>;
}
