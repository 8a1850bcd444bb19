/** Incompressible data grows slightly: xz, zstd, gzip and bzip2 add at most this part of it, and some headers. */
const GROWTH = 1 / 16;
const HEADERS_BYTES = 64 * 1024;

/**
 * Returns the most bytes that the file of a NAR may have: NarSize, a sixteenth of it, and 64 KiB. NarSize is signed and
 * FileSize is not, so a source may claim or send anything. Nothing beyond this limit is read.
 */
export function maxFileBytes(narSize: number): number {
  return Math.ceil(narSize * (1 + GROWTH)) + HEADERS_BYTES;
}
