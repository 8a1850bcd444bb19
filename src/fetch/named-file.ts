import type { FileHash } from '../nix/brands.ts';
import { isKnownCompression } from '../nix/compression.ts';
import { maxFileBytes } from '../nix/file-bound.ts';
import type { FileDescription, NarInfo } from '../nix/narinfo.ts';
import { extensionOf } from '../torrent/canonical.ts';

/** A NAR file named by its SHA-256: anybody may send it, in parts, and a later run continues from them. */
export interface NamedFile {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** The ending of the file's name: `xz`, `zst`, empty for none. */
  readonly extension: string;
}

/**
 * Returns the file that a narinfo names. Undefined if it names no believable one: FileHash or FileSize is absent,
 * FileSize is more than a NAR of that NarSize can have, or the compression is unknown. Such a NAR is fetched by its
 * contents ({@link fetchByContents}).
 */
export function namedFile(info: FileDescription & Pick<NarInfo, 'narSize'>): NamedFile | undefined {
  const { fileHash, fileSize, compression, narSize } = info;
  if (fileHash === undefined || fileSize === undefined) return undefined;
  if (!isKnownCompression(compression) || fileSize > maxFileBytes(narSize)) return undefined;
  return { fileHash, sizeBytes: fileSize, extension: extensionOf(compression) };
}

/** Returns the narinfo without its file, for a NAR whose file is unknown. */
export function withoutName({ fileHash: _hash, fileSize: _size, ...info }: NarInfo): NarInfo {
  return info;
}
