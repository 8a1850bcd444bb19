import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { withExtra } from '../../nix/narinfo.ts';
import { isWithoutNar, narInfoWithoutNar } from '../../nix/path-info.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import {
  entryOf,
  isOnlyOfNix,
  pendingEntry,
  type AskedBy,
  type CatalogueEntry,
} from '../../store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../store/file-store.ts';
import { referencesFirst, type Closure } from '../walk/closure.ts';
import type { NarJob } from '../plan/job.ts';
import { namedFile } from '../plan/named-file.ts';

/**
 * Makes fetched NARs visible. First waits until the NARs are on the disk. Then writes the narinfos, each after its
 * references. Then lists the NARs in the catalogue, so that a daemon may serve them. If there is nothing to write, does
 * not wait for the disk.
 */
export class Committer {
  readonly #store: FileStore;
  readonly #askedBy: AskedBy;
  /** Narinfos that were written, as given. */
  readonly #written = new Set<NarInfo>();
  /** Narinfos in the store; read once. */
  #present: Set<StoreHash> | undefined;
  #catalogue: Catalogue | undefined;

  /** @param askedBy who asked for the NARs. Default: a fetch */
  constructor(store: FileStore, askedBy: AskedBy = 'fetch') {
    this.#store = store;
    this.#askedBy = askedBy;
  }

  /**
   * Commits the narinfos of a closure, references first. Their NARs are in the store. Does not write earlier ones again.
   *
   * @param jobs fetched NARs, with their torrents
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  async commit(closure: Closure, jobs: readonly NarJob[]): Promise<void> {
    const store = this.#store;
    const infos = referencesFirst(closure);
    const locals = new Map(infos.map((info) => [info, asLocal(info)]));
    const present = (this.#present ??= new Set(await store.listStoreHashes()));
    const lacks = (info: NarInfo): boolean | Promise<boolean> =>
      !present.has(storeHashOf(info.storePath)) || lacksNarInfo(info, store);
    const fresh = [...locals].filter(([info]) => !this.#written.has(info)).map(([, local]) => local);
    const lacking: NarInfo[] = [];
    for (const info of fresh) if (await lacks(info)) lacking.push(info);
    const catalogue = (this.#catalogue ??= await Catalogue.open(store));
    const torrents = new Map(jobs.map((job) => [job.fileHash, job.torrent]));
    const entries: CatalogueEntry[] = [];
    for (const info of locals.values()) {
      const entry = await catalogueEntry(info, torrents, catalogue, store, this.#askedBy);
      if (entry !== undefined) entries.push(entry);
    }
    if (lacking.length + entries.length > 0) {
      const narInfos = await store.sync();
      for (const info of lacking) if (await lacks(info)) await narInfos.write(info); // another process may have written it
    }
    for (const info of infos) {
      this.#written.add(info);
      present.add(storeHashOf(info.storePath));
    }
    await catalogue.add(entries);
  }
}

/** Commits everything at once, as {@link Committer.commit} does. */
export async function commit(closure: Closure, jobs: readonly NarJob[], store: FileStore): Promise<void> {
  await new Committer(store).commit(closure, jobs);
}

/** Returns true unless the store has the same narinfo or a better one. */
async function lacksNarInfo(info: NarInfo, store: FileStore): Promise<boolean> {
  const kept = isWithoutNar(info) ? await store.readNarInfoOf(info.storePath) : undefined;
  if (kept !== undefined && !isWithoutNar(kept)) return false; // keeps facts about a file
  return !(await store.holdsNarInfo(info)); // compares the text: an older version may have written wrong remarks
}

/** Returns the catalogue's entry for a path's NAR. Undefined if it is already there, or if the NAR is not here. */
async function catalogueEntry(
  info: NarInfo,
  torrents: ReadonlyMap<string, NarJob['torrent']>,
  catalogue: Catalogue,
  store: FileStore,
  askedBy: AskedBy,
): Promise<CatalogueEntry | undefined> {
  const { storePath } = info;
  const named = namedFile(info);
  if (named === undefined) return undefined;
  const { fileHash, sizeBytes, extension } = named;
  const file = await store.statNar(info);
  if (file === undefined || file.sizeBytes !== sizeBytes) return undefined;
  const torrent = torrents.get(fileHash);
  if (torrent !== undefined) return entryOf(torrent, storePath, file.mtimeMs, askedBy);
  const known = catalogue.knows({ storePath, fileHash }, file);
  if (known !== undefined && (!isOnlyOfNix(known) || isOnlyOfNix({ askedBy }))) return undefined;
  return pendingEntry({ fileHash, extension, ...file }, storePath, askedBy);
}

/** Returns the narinfo for this store: with the store's own name of the NAR, and without the fields of a hash map. */
export function asLocal(info: NarInfo): NarInfo {
  const bare = withExtra(withExtra(info, 'InfoHash', undefined), 'Pieces', undefined);
  const file = namedFile(info);
  if (file !== undefined) return { ...bare, url: FileStore.narUrl(file.fileHash, file.extension) };
  // The target has the path, so no file was looked for. But Nix requires a URL.
  const { fileHash: _hash, fileSize: _size, ...unnamed } = bare;
  return isWithoutNar(info) ? info : narInfoWithoutNar(unnamed);
}
