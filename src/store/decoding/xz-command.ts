/** How xz is run: with bounds on the memory and the output of files that come from strangers. */

/** Decodes to the standard output. The presets of xz need up to 65 MiB. */
export const XZ = 'xz -dc --memlimit-decompress=256MiB';

/** The unit of `ulimit -f` (POSIX). */
const BLOCK_BYTES = 512;

/** Returns the argument of `ulimit -f` for a file of at most so many bytes. */
export function limitBlocks(maxBytes: number): string {
  return `${Math.ceil(maxBytes / BLOCK_BYTES)}`;
}
