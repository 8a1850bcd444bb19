import type { NarInfo } from '../../nix/narinfo.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import { FileStore } from '../file-store.ts';
import { compressionOfFile } from '../hashing/nar-contents.ts';

/**
 * Corrects the name and the `Compression` of a narinfo's NAR, if the narinfo states wrong ones.
 *
 * @returns the corrected narinfo; undefined if nothing was wrong
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function relabelNar({ storePath }: NarInfo, store: FileStore): Promise<NarInfo | undefined> {
  const info = await store.readNarInfoOf(storePath);
  if (info?.fileHash === undefined) return undefined;
  const path = store.narPath(info);
  const compression = await compressionOfFile(path, info.compression);
  if (compression === undefined || compression === info.compression) return undefined;
  const own = { ...info, compression, url: FileStore.narUrl(info.fileHash, extensionOf(compression)) };
  await store.placeNar(path, own);
  await store.rewriteNarInfo(own);
  return own;
}
