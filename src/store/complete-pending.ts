import type { FileHash } from '../nix/brands.ts';
import { narTorrent } from '../torrent/canonical.ts';
import { entryOf, isPending, type Catalogue, type CatalogueEntry } from './catalogue.ts';
import { FileStore } from './file-store.ts';
import { hashNars } from './hash-pool.ts';

/** After this a NAR that could not be read, or was another, is tried again. */
const TRY_AGAIN_MS = 10 * 60_000;

/**
 * Reads the NARs whose pieces nobody knows yet (they came over HTTP and no hash map has them), so that they can be
 * seeded. Each is in the catalogue as soon as it was read.
 *
 * @param unfit when (`performance.now`) a NAR may be tried again whose file is missing, cannot be read or is not the
 *   one that the entry names; kept from one call to the next
 * @throws STORE_FULL, STORE_UNWRITABLE for the catalogue; the signal's reason
 */
export async function completePending(
  store: FileStore,
  catalogue: Catalogue,
  unfit: Map<FileHash, number>,
  signal?: AbortSignal,
): Promise<void> {
  const now = performance.now();
  const pending = [...catalogue.entries()].filter(
    (entry) => isPending(entry) && (unfit.get(entry.fileHash) ?? now) <= now,
  );
  if (pending.length === 0) return;
  const items = pending.map((entry) => ({
    entry,
    path: store.narPath({ url: FileStore.narUrl(entry.fileHash, entry.extension), storePath: entry.storePath }),
    sizeBytes: entry.sizeBytes,
  }));
  const putOff = ({ entry }: { readonly entry: CatalogueEntry }): void => {
    unfit.set(entry.fileHash, performance.now() + TRY_AGAIN_MS);
  };
  for await (const { item, hashes } of hashNars(items, signal, putOff)) {
    const { fileHash, extension, storePath, askedBy } = item.entry;
    if (hashes.fileHash !== fileHash) {
      putOff(item);
      continue;
    }
    unfit.delete(fileHash);
    await catalogue.add([entryOf(narTorrent({ ...hashes, extension }), storePath, hashes.mtimeMs, askedBy)]);
  }
}
