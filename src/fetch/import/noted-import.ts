import type { StorePath } from '../../nix/brands.ts';
import { copiedPathIn, pathsToCopyIn } from '../../nix/programs/copied-path.ts';
import { isSameFile, type CatalogueEntry } from '../../store/catalogue/catalogue-entry.ts';
import { entriesOf, noteChecked } from '../../store/catalogue/note-checked.ts';
import type { EarlyImport } from './early-import.ts';
import type { FetchNarsContext } from '../download/fetch-nars.ts';
import { importRoots, type Imported, type ImportOptions } from './import.ts';

/**
 * Imports with `nix copy` as {@link importRoots} does, and records the NARs that Nix accepted: it accepts only contents
 * with the signed NarHash, so those may be served.
 *
 * @throws as {@link importRoots}; STORE_FULL, STORE_UNWRITABLE for the catalogue
 */
export async function importNoted(
  roots: readonly StorePath[],
  fetched: Parameters<typeof importRoots>[1],
  options: Omit<ImportOptions, 'onNixLine'> & { readonly download: FetchNarsContext },
): Promise<Imported> {
  const { download, to, trustedPublicKeys } = options;
  const { store, held, tell } = download;
  const copied = new Set<string>();
  const onNixLine = (line: string): void => {
    const path = copiedPathIn(line);
    const toCopy = pathsToCopyIn(line);
    if (toCopy !== undefined) tell({ type: 'to-import', paths: toCopy });
    else if (path === undefined) tell({ type: 'nix-line', line });
    else {
      copied.add(path);
      tell({ type: 'path-copied', path });
    }
  };
  const paths = Array.from(fetched.closure.values(), ({ storePath }) => storePath);
  const before = await entriesOf(store, paths);
  const imported = await importRoots(roots, fetched, download, { to, trustedPublicKeys, onNixLine });
  for (const path of copied) held?.noteSound(path);
  await noteChecked(
    store,
    before.filter(({ storePath }) => copied.has(storePath)),
  );
  return imported;
}

/**
 * Records the NARs that Nix accepted before their narinfos were written.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE for the catalogue
 */
export async function noteEarly(
  imported: EarlyImport['imported'],
  { store, held }: Pick<FetchNarsContext, 'store' | 'held'>,
): Promise<void> {
  for (const path of imported.keys()) held?.noteSound(path);
  const entries = await entriesOf(store, imported.keys());
  const isSame = (entry: CatalogueEntry): boolean => {
    const file = imported.get(entry.storePath);
    return file !== undefined && isSameFile(entry, file);
  };
  await noteChecked(store, entries.filter(isSame));
}
