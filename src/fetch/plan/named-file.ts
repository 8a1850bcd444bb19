import type { FileHash } from '../../nix/brands.ts';
import { isKnownCompression } from '../../nix/compression.ts';
import { maxFileBytes } from '../../nix/file-bound.ts';
import { isSafeNarUrl, type FileDescription, type NarInfo } from '../../nix/narinfo.ts';
import { FileStore } from '../../store/file-store.ts';
import { extensionOf } from '../../torrent/canonical.ts';

/** A NAR file named by its SHA-256. Any source may send it, in parts, and a later run continues from them. */
export interface NamedFile {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
  /** The extension of the file's name: `xz`, `zst`, or empty. */
  readonly extension: string;
}

/**
 * Returns the file that a narinfo names. Undefined if FileHash or FileSize is absent, FileSize is more than a NAR of
 * that NarSize can have, or the compression is unknown. Such a NAR is fetched by its contents ({@link
 * fetchByContents}).
 */
export function namedFile(info: FileDescription & Pick<NarInfo, 'narSize'>): NamedFile | undefined {
  const { fileHash, fileSize, compression, narSize } = info;
  if (fileHash === undefined || fileSize === undefined) return undefined;
  if (!isKnownCompression(compression) || fileSize > maxFileBytes(narSize)) return undefined;
  return { fileHash, sizeBytes: fileSize, extension: extensionOf(compression) };
}

/**
 * Returns the narinfo of a stranger with a URL relative to the cache that will be asked for its file. URL is not
 * signed: an absolute one could make this machine contact any server. Replaces an unsafe URL by the usual name. Returns
 * undefined if the narinfo names no file.
 */
export function withSafeUrl(info: NarInfo): NarInfo | undefined {
  if (isSafeNarUrl(info.url)) return info;
  const file = namedFile(info);
  return file && { ...info, url: FileStore.narUrl(file.fileHash, file.extension) };
}

/** Returns the narinfo without a file, for a NAR whose file is unknown. */
export function withoutName({ fileHash: _hash, fileSize: _size, ...info }: NarInfo): NarInfo {
  return info;
}
