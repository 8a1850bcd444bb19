import { rm } from 'node:fs/promises';
import type { NarInfo } from '../../nix/narinfo.ts';
import { FileStore } from '../../store/file-store.ts';
import type { PartialSession } from '../../store/session.ts';
import { writeNar, type NarFormat } from '../../store/export/write-nar.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../../torrent/canonical.ts';

/** How NARs are kept that were not downloaded as files. The lowest level is three times as fast as the usual one. */
const FORMAT: NarFormat = { compression: 'zstd', level: 1 };

/** A NAR that was made on this machine, with the description of its file in the store. */
export interface MadeNar {
  readonly info: NarInfo;
  readonly torrent: NarTorrent;
}

/**
 * Writes a NAR into the store, as a file of its own.
 *
 * @param nar its bytes
 * @returns undefined if it is not the signed one: then nothing is left
 * @throws STORE_FULL, STORE_UNWRITABLE; errors of `nar`; the signal's reason
 */
export async function writeMadeNar(
  nar: AsyncIterable<Buffer>,
  info: NarInfo,
  {
    store,
    session,
    signal,
  }: { readonly store: FileStore; readonly session: PartialSession; readonly signal: AbortSignal },
): Promise<MadeNar | undefined> {
  const { narHash, narSize, storePath } = info;
  const { compression } = FORMAT;
  const path = session.path(`${narHash}.made`);
  try {
    const written = await writeNar(nar, path, { format: FORMAT, narSize, signal, onBytes: () => undefined });
    if (written.narHash !== narHash) return undefined;
    const torrent = narTorrent({ ...written, extension: extensionOf(compression) });
    const { fileHash, sizeBytes: fileSize } = torrent;
    const url = FileStore.narUrl(fileHash, extensionOf(compression));
    await store.placeNar(path, { url, storePath });
    return { info: { ...info, url, compression, fileHash, fileSize }, torrent };
  } finally {
    await rm(path, { force: true });
  }
}
