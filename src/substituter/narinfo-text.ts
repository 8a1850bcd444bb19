import { asFileHash } from '../nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { namedFile } from '../fetch/plan/named-file.ts';
import { FileStore } from '../store/file-store.ts';

/**
 * Writes the narinfo of a source with our own name of its file, or of the NAR. Signatures are those of the source.
 * Undefined if it names no file.
 */
export function textOf(info: NarInfo, isDecoded: boolean): string | undefined {
  const file = namedFile(info);
  if (file === undefined) return undefined;
  const url = `${FileStore.narUrl(file.fileHash, file.extension)}?path=${storeHashOf(info.storePath)}`;
  if (!isDecoded) return formatNarInfo({ ...info, url, extra: [] });
  return formatNarInfo({ ...uncompressed(info), url: `${url}&as=nar`, extra: [] });
}

/** Returns the narinfo that names the NAR itself as its file. */
export function uncompressed(info: NarInfo): NarInfo {
  return { ...info, compression: 'none', fileHash: asFileHash(info.narHash), fileSize: info.narSize };
}
