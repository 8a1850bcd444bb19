import { readFile } from 'node:fs/promises';
import { isNarswarmError } from '../../errors.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { isKnownCompression } from '../../nix/compression.ts';
import { isSafeNarUrl, parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { admitNarInfo } from '../../nix/sound-remarks.ts';
import { extensionOf } from '../../torrent/canonical.ts';
import { FileStore } from '../file-store.ts';
import { hashNar } from '../hashing/hash-nar.ts';
import { judgeFile } from '../hashing/judge-file.ts';
import { storeError } from '../../disk/store-error.ts';

/**
 * Restores a narinfo that was quarantined for its unsigned parts (remarks, FileHash, FileSize, Compression, URL), if
 * the store has the signed NAR. Then nothing has to be fetched.
 *
 * @param quarantined its path in quarantine
 * @returns true if it was restored
 * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function mendNarInfo(
  quarantined: string,
  storeHash: StoreHash,
  context: { readonly store: FileStore; readonly keys: readonly PublicKey[]; readonly signal: AbortSignal },
): Promise<boolean> {
  const { store, keys, signal } = context;
  let info: NarInfo;
  try {
    info = admitNarInfo(parseNarInfo(await readFile(quarantined, 'utf8')), keys, storeHash);
  } catch (error) {
    if (isNarswarmError(error)) return false;
    throw storeError(error, quarantined);
  }
  for (const path of placesOf(info, store)) {
    const found = await hashNar(path, signal);
    const file = found && { path, fileHash: found.fileHash, fileSize: found.sizeBytes };
    const description = file && (await judgeFile(file, info, signal));
    if (description === undefined) continue;
    const target = store.narPath({ ...info, ...description });
    if (target !== path) await store.placeNar(path, { ...info, ...description });
    await store.rewriteNarInfo({ ...info, ...description });
    return true;
  }
  return false;
}

/** Returns the places where the NAR may be: the one in the narinfo, and the one that this store uses for its hash. */
function placesOf(info: NarInfo, store: FileStore): string[] {
  const said = isSafeNarUrl(info.url) ? [store.narPath(info)] : [];
  const own = ownNarPath(info, store);
  return own === undefined || said.includes(own) ? said : [...said, own];
}

/** Returns where this store keeps the file of a narinfo's FileHash. */
export function ownNarPath(info: NarInfo, store: FileStore): string | undefined {
  const { fileHash, compression } = info;
  if (fileHash === undefined || !isKnownCompression(compression)) return undefined;
  return store.narPath({ ...info, url: FileStore.narUrl(fileHash, extensionOf(compression)) });
}
