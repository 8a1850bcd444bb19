import PQueue from 'p-queue';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { withExtra } from '../nix/narinfo.ts';
import { isWithoutNar, narInfoWithoutNar } from '../nix/path-info.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue, entryOf, pendingEntry, type CatalogueEntry } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import type { NarJob } from './job.ts';
import { namedFile } from './named-file.ts';

/** Files looked at or written at a time. */
const CONCURRENCY = 32;

/**
 * Makes what was fetched visible: first waits until the NARs are on the disk, then writes the narinfos, each after
 * those that it refers to, then lists the NARs in the catalogue, so that a daemon may serve them.
 */
export class Committer {
  readonly #store: FileStore;
  readonly #queue = new PQueue({ concurrency: CONCURRENCY });
  /** Narinfos that were written, as they were given. */
  readonly #written = new Set<NarInfo>();
  /** Narinfos that the store holds; read once. */
  #present: Set<StoreHash> | undefined;
  #catalogue: Catalogue | undefined;

  constructor(store: FileStore) {
    this.#store = store;
  }

  /**
   * Commits narinfos whose NARs are in the store. What was committed before is not written again.
   *
   * @param infos in an order in which references come first
   * @param jobs NARs that were fetched, with their torrents
   * @throws STORE_FULL, STORE_UNWRITABLE
   */
  async commit(infos: readonly NarInfo[], jobs: readonly NarJob[]): Promise<void> {
    const store = this.#store;
    const locals = new Map(infos.map((info) => [info, asLocal(info)]));
    await store.sync();
    const present = (this.#present ??= new Set(await store.listStoreHashes()));
    const fresh = [...locals].filter(([info]) => !this.#written.has(info)).map(([, local]) => local);
    for (const layer of layersOf(fresh))
      await this.#queue.addAll(layer.map((info) => () => writeUnlessSame(info, present, store)));
    for (const info of infos) {
      this.#written.add(info);
      present.add(storeHashOf(info.storePath));
    }

    const catalogue = (this.#catalogue ??= await Catalogue.open(store));
    const torrents = new Map(jobs.map((job) => [job.fileHash, job.torrent]));
    const entries = await this.#queue.addAll(
      [...locals.values()].map((info) => () => catalogueEntry(info, torrents, catalogue, store)),
    );
    await catalogue.add(entries.filter((entry) => entry !== undefined));
  }
}

/** Commits all at once, as {@link Committer.commit} does. */
export async function commit(infos: readonly NarInfo[], jobs: readonly NarJob[], store: FileStore): Promise<void> {
  await new Committer(store).commit(infos, jobs);
}

/** Layers in which every narinfo refers to earlier layers alone (a cycle aside): a layer may be written at once. */
function layersOf(infos: readonly NarInfo[]): NarInfo[][] {
  const layers: NarInfo[][] = [];
  const depths = new Map<string, number>();
  for (const info of infos) {
    const depth = Math.max(-1, ...info.references.map((name) => depths.get(name.slice(0, 32)) ?? -1)) + 1;
    depths.set(storeHashOf(info.storePath), depth);
    (layers[depth] ??= []).push(info);
  }
  return layers;
}

async function writeUnlessSame(info: NarInfo, present: ReadonlySet<StoreHash>, store: FileStore): Promise<void> {
  if (present.has(storeHashOf(info.storePath))) {
    const kept = isWithoutNar(info) ? await store.readNarInfoOf(info.storePath) : undefined;
    if (kept !== undefined && !isWithoutNar(kept)) return; // what a file was found out to be stays
    if (await store.holdsNarInfo(info)) return; // by its text: one that an older version wrote may have wrong remarks
  }
  await store.writeNarInfo(info);
}

/** What the catalogue is to say of a path's NAR, or undefined where it says so already or the NAR is not here. */
async function catalogueEntry(
  info: NarInfo,
  torrents: ReadonlyMap<string, NarJob['torrent']>,
  catalogue: Catalogue,
  store: FileStore,
): Promise<CatalogueEntry | undefined> {
  const { storePath } = info;
  const named = namedFile(info);
  if (named === undefined) return undefined;
  const { fileHash, sizeBytes, extension } = named;
  const file = await store.statNar(info);
  if (file === undefined || file.sizeBytes !== sizeBytes) return undefined;
  const torrent = torrents.get(fileHash);
  if (torrent !== undefined) return entryOf(torrent, storePath, file.mtimeMs, 'fetch');
  if (catalogue.knows({ storePath, fileHash }, file) !== undefined) return undefined;
  return pendingEntry({ fileHash, extension, ...file }, storePath, 'fetch');
}

/** The narinfo as this store has it: its own name for the NAR, and none of a hash map's fields. */
function asLocal(info: NarInfo): NarInfo {
  const bare = withExtra(withExtra(info, 'InfoHash', undefined), 'Pieces', undefined);
  const file = namedFile(info);
  if (file !== undefined) return { ...bare, url: FileStore.narUrl(file.fileHash, file.extension) };
  // The target has the path, so nobody has looked for a file; Nix wants some URL.
  const { fileHash: _hash, fileSize: _size, ...unnamed } = bare;
  return isWithoutNar(info) ? info : narInfoWithoutNar(unnamed);
}
