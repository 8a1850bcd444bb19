/** Compression that wins nothing adds a little: of xz, zstd, gzip and bzip2 no more than this part, and some headers. */
const GROWTH = 1 / 16;
const HEADERS_BYTES = 64 * 1024;

/**
 * The most bytes that the file of a NAR can have: a sixteenth more than NarSize, and 64 KiB. NarSize is signed and
 * FileSize is not, so a source may claim or send anything: what goes beyond this is not read.
 */
export function maxFileBytes(narSize: number): number {
  return Math.ceil(narSize * (1 + GROWTH)) + HEADERS_BYTES;
}
