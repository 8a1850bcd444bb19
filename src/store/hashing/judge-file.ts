import { isNarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { FileDescription, NarInfo } from '../../nix/narinfo.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import { FileStore } from '../file-store.ts';
import { hashContents } from './nar-contents.ts';

/**
 * Judges a file by its contents, since FileHash is unsigned. Returns its description under this store's own name if it
 * holds the signed NAR. Returns undefined if it does not, or if it cannot be read here.
 *
 * @param fileHash SHA-256 of the file
 * @throws the signal's reason
 */
export async function judgeFile(
  file: { readonly path: string; readonly fileHash: FileHash; readonly fileSize: number },
  info: NarInfo,
  signal: AbortSignal,
): Promise<Required<FileDescription> | undefined> {
  const { path, fileHash, fileSize } = file;
  try {
    const { narHash, narSize, compression } = await hashContents(path, info.compression, info.narSize, signal);
    if (narHash !== info.narHash || narSize !== info.narSize) return undefined;
    return { url: FileStore.narUrl(fileHash, extensionOf(compression)), compression, fileHash, fileSize };
  } catch (error) {
    if (isNarswarmError(error, 'HASH_MISMATCH')) return undefined;
    throw error;
  }
}
