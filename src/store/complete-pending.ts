import type { FileHash } from '../nix/brands.ts';
import { narTorrent } from '../torrent/canonical.ts';
import { entryOf, isPending, type Catalogue, type CatalogueEntry } from './catalogue.ts';
import { FileStore } from './file-store.ts';
import { hashNars } from './hash-pool.ts';

/**
 * Reads the NARs whose pieces nobody knows yet (they came over HTTP and no hash map has them), so that they can be
 * seeded.
 *
 * @param unfit takes the NARs whose file is not the one that the entry names, so that it is not read every time
 */
export async function completePending(
  store: FileStore,
  catalogue: Catalogue,
  unfit: Set<FileHash>,
  signal?: AbortSignal,
): Promise<void> {
  const pending = [...catalogue.entries()].filter((entry) => isPending(entry) && !unfit.has(entry.fileHash));
  if (pending.length === 0) return;
  const items = pending.map((entry) => ({
    entry,
    path: store.narPath({ url: FileStore.narUrl(entry.fileHash, entry.extension), storePath: entry.storePath }),
    sizeBytes: entry.sizeBytes,
  }));
  const completed: CatalogueEntry[] = [];
  for await (const { item, hashes } of hashNars(items, signal)) {
    if (hashes.fileHash !== item.entry.fileHash) {
      unfit.add(item.entry.fileHash);
      continue;
    }
    const torrent = narTorrent({ ...hashes, extension: item.entry.extension });
    completed.push(entryOf(torrent, item.entry.storePath, hashes.mtimeMs, item.entry.askedBy));
  }
  await catalogue.add(completed);
}
