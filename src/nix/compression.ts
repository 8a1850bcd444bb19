/**
 * Compressions of NARs, found as Nix finds them (Nix: src/libutil/compression.cc, which leaves all but two to
 * libarchive).
 */

/** Compressions that narswarm can read, by their names in narinfos. */
export type Compression = 'none' | 'br' | 'xz' | 'bzip2' | 'zstd' | 'gzip' | 'lzip' | 'lz4' | 'lzma';

/** Bytes at the start of a file that show its compression. */
export const MAGIC_BYTES = 6;

/** Empty frames that a zstd file may begin with (RFC 8878, section 3.1.2). */
const SKIPPABLE_FRAMES = Array.from('0123456789abcdef', (digit) => ['zstd', `5${digit}2a4d18`] as const);

const MAGIC: readonly (readonly [compression: Compression, hex: string])[] = [
  ['xz', 'fd377a585a00'],
  ['zstd', '28b52ffd'],
  ...SKIPPABLE_FRAMES,
  ['bzip2', '425a68'],
  ['gzip', '1f8b'],
  ['lzip', '4c5a4950'],
  ['lz4', '04224d18'],
  ['lzma', '5d0000'],
];

/**
 * Returns the compression to read a file with, if its narinfo says `Compression: label`. As Nix does, believes `none`
 * and `br`. For any other label, known or not, looks at the file itself; a file without a known mark is read as it is.
 *
 * @param head the first {@link MAGIC_BYTES} of the file, or more; the whole file if it is shorter
 */
export function compressionOf(label: string, head: Uint8Array): Compression {
  if (label === 'none' || label === 'br') return label;
  const start = Buffer.from(head.subarray(0, MAGIC_BYTES)).toString('hex');
  return MAGIC.find(([, hex]) => start.startsWith(hex))?.[0] ?? 'none';
}

/** The first bytes of every NAR: the length of its first word. */
const NAR_START = '0d0000000000';

/**
 * Returns the compression that a file's own mark shows, if its narinfo says `Compression: label`. Returns undefined if
 * the file has no known mark, or if Nix believes the label.
 *
 * @param head as for {@link compressionOf}
 */
export function markedCompression(label: string, head: Uint8Array): Compression | undefined {
  const compression = compressionOf(label, head);
  if (label === 'none' || label === 'br') return undefined;
  const isPlain = Buffer.from(head).toString('hex').startsWith(NAR_START);
  return compression === 'none' && !isPlain ? undefined : compression;
}

/** Returns true if a narinfo's `Compression` is a known name, fit for the ending of a file's name. */
export function isKnownCompression(label: string): label is Compression {
  return label === 'none' || label === 'br' || MAGIC.some(([compression]) => compression === label);
}
