import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../torrent/canonical.ts';
import type { FileStore } from './file-store.ts';
import { hashNar } from './hash-nar.ts';

/**
 * The torrent of one NAR of a store, made from the file itself.
 *
 * @param text a store path or its hash part
 * @throws STORE_PATH_INVALID, NOT_FOUND; HASH_MISMATCH where the file is not what the narinfo says
 */
export async function describeNar(
  store: FileStore,
  text: string,
  signal?: AbortSignal,
): Promise<{ storePath: StorePath; torrent: NarTorrent }> {
  const hash = text.includes('/') ? storeHashOf(parseStorePath(text)) : parseStoreHash(text);
  const info = await store.readNarInfo(hash);
  if (info === undefined)
    throw new NarswarmError(
      'NOT_FOUND',
      `${store.dir} holds no narinfo of ${text}: fetch it first, or name another --store`,
      { facts: { path: text } },
    );
  const hashes = await hashNar(store.narPath(info), signal);
  if (hashes === undefined)
    throw new NarswarmError(
      'NOT_FOUND',
      `${store.dir} holds the narinfo of ${info.storePath} but not its NAR: fetch it first`,
      { facts: { path: info.storePath } },
    );
  if (info.fileHash !== undefined && hashes.fileHash !== info.fileHash) {
    throw new NarswarmError(
      'HASH_MISMATCH',
      `${store.narPath(info)} is damaged: its SHA-256 is ${hashes.fileHash}, its narinfo says ${info.fileHash}`,
      { facts: { path: info.storePath } },
    );
  }
  return { storePath: info.storePath, torrent: narTorrent({ ...hashes, extension: extensionOf(info.compression) }) };
}
