import { NarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import { hashOfNamed } from '../../nix/named-path.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../../torrent/canonical.ts';
import type { FileStore } from '../file-store.ts';
import { hashNar } from './hash-nar.ts';

/**
 * Makes the torrent of a NAR from its file in the store.
 *
 * @throws NOT_FOUND; HASH_MISMATCH if the file does not match its narinfo
 */
export async function describeNar(
  store: FileStore,
  named: StorePath | StoreHash,
  signal?: AbortSignal,
): Promise<{ storePath: StorePath; torrent: NarTorrent }> {
  const info = await store.readNarInfo(hashOfNamed(named));
  if (info === undefined)
    throw new NarswarmError(
      'NOT_FOUND',
      `${store.dir} holds no narinfo of ${named}: fetch it first, or name another --store`,
      { facts: { path: named } },
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
