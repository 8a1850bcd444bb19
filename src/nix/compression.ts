/** How NARs are compressed, as Nix takes it (Nix: src/libutil/compression.cc, which leaves all but two to libarchive). */

/** Compressions that a NAR can be read of here, as narinfos name them. */
export type Compression = 'none' | 'br' | 'xz' | 'bzip2' | 'zstd' | 'gzip' | 'lzip' | 'lz4' | 'lzma';

/** Bytes of the beginning of a file that tell how it is compressed. */
export const MAGIC_BYTES = 6;

/** Frames that zstd files may begin with, and that hold nothing (RFC 8878, section 3.1.2). */
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
 * How a file is to be read whose narinfo says `Compression: label`. As in Nix, `none` and `br` are taken at their word, and
 * of anything else, known or not, the file itself tells; one that bears no mark is read as it is.
 *
 * @param head at least the first {@link MAGIC_BYTES} of the file, if it has so many
 */
export function compressionOf(label: string, head: Uint8Array): Compression {
  if (label === 'none' || label === 'br') return label;
  const start = Buffer.from(head.subarray(0, MAGIC_BYTES)).toString('hex');
  return MAGIC.find(([, hex]) => start.startsWith(hex))?.[0] ?? 'none';
}

/** As every NAR begins: the length of its first word. */
const NAR_START = '0d0000000000';

/**
 * What a file bears the mark of whose narinfo says `Compression: label`, or undefined where it bears none or where Nix takes
 * the narinfo at its word.
 *
 * @param head as of {@link compressionOf}
 */
export function markedCompression(label: string, head: Uint8Array): Compression | undefined {
  const compression = compressionOf(label, head);
  if (label === 'none' || label === 'br') return undefined;
  const isPlain = Buffer.from(head).toString('hex').startsWith(NAR_START);
  return compression === 'none' && !isPlain ? undefined : compression;
}

/** Whether a narinfo's `Compression` is a name that a file's ending can be made of, and not made up. */
export function isKnownCompression(label: string): label is Compression {
  return label === 'none' || label === 'br' || MAGIC.some(([compression]) => compression === label);
}
