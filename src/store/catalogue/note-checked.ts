import type { StorePath } from '../../nix/brands.ts';
import { Catalogue } from './catalogue.ts';
import { isSameFile, type CatalogueEntry } from './catalogue-entry.ts';
import type { FileStore } from '../file-store.ts';

/**
 * Records in the catalogue that the contents of NARs were checked by NarHash, as Nix does during an import. They are
 * not decompressed again.
 *
 * @param before their entries before that check; entries whose file has changed since are skipped
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function noteChecked(store: FileStore, before: readonly CatalogueEntry[]): Promise<void> {
  const catalogue = await Catalogue.open(store);
  const checked: CatalogueEntry[] = [];
  for (const entry of before) {
    const now = catalogue.byStorePath(entry.storePath);
    if (now === undefined || !isSameFile(now, entry)) continue;
    const info = await store.readNarInfoOf(entry.storePath);
    if (info?.fileHash === entry.fileHash) checked.push({ ...now, narHash: info.narHash });
  }
  await catalogue.add(checked);
}

/** Returns the catalogue's entries of some paths. */
export async function entriesOf(store: FileStore, paths: Iterable<StorePath>): Promise<CatalogueEntry[]> {
  const catalogue = await Catalogue.open(store);
  return [...paths].flatMap((path) => catalogue.byStorePath(path) ?? []);
}
