import { remove } from '../disk/remove.ts';
import { withExtra, type NarInfo } from '../nix/narinfo.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import { entryOf, isOnlyOfNix, type CatalogueEntry } from '../store/catalogue/catalogue-entry.ts';
import { readClaims } from '../store/claims.ts';
import { narNameOf } from '../store/collect/store-graph.ts';
import type { ExportFolder, FolderNar, PlacedNar } from '../store/export/export-folder.ts';
import type { FileStore } from '../store/file-store.ts';
import { BEING_SERVED_MS, forgetServed, readLastServed } from '../store/catalogue/last-served.ts';
import { Turn } from '../store/turn.ts';
import { NarUsers } from './nar-users.ts';

/** A NAR that was compressed again. */
export interface Compressed {
  /** The new file, in the folder. */
  readonly nar: FolderNar;
  /** The narinfos whose NAR it is, with the names of their old files. */
  readonly infos: readonly NarInfo[];
  readonly narSize: number;
  /** Bytes of the old files, by their names. */
  readonly files: ReadonlyMap<string, number>;
}

/** NARs that were replaced: their number, the bytes of their old and new files, and their NarSizes. */
export interface ReplacedSums {
  readonly nars: number;
  readonly fileBytes: number;
  readonly bytes: number;
  readonly narBytes: number;
}

/**
 * Replaces NAR files of a store by others with the same contents, all at once: puts the new files into their places, waits
 * until they are on the disk, rewrites the narinfos, and waits until these are on the disk. So whenever this ends, each
 * narinfo has its NAR.
 *
 * The old files stay for {@link removeReplaced}. But the gate serves only files that a narinfo names, so call this just
 * before the hash map of the new files is signed: until then, followers get none of the NARs from here.
 *
 * @returns also the narinfos as they were
 * @throws STORE_FULL, STORE_UNWRITABLE
 */
export async function replaceNars(
  nars: readonly Compressed[],
  { store, folder, catalogue, compression }: ReplaceOptions,
): Promise<{ readonly sums: ReplacedSums; readonly old: readonly NarInfo[] }> {
  const sums = { nars: 0, fileBytes: 0, bytes: 0, narBytes: 0 };
  const old: NarInfo[] = [];
  if (nars.length === 0) return { sums, old };
  const placed: (Compressed & PlacedNar)[] = [];
  for (const one of nars) {
    const [info] = one.infos;
    if (info !== undefined) placed.push({ ...one, ...(await folder.placeAndKeep(one.nar, info.storePath)) });
  }
  const narInfos = await store.sync();
  const entries: CatalogueEntry[] = [];
  for (const { nar, infos, url, mtimeMs, narSize, files } of placed) {
    const { torrent } = nar;
    let isUsed = false;
    for (const info of infos) {
      const { storePath, narHash } = info;
      const now = await store.readNarInfoOf(storePath); // with the signatures that it got meanwhile
      if (now?.narHash !== narHash || now.url !== info.url) continue;
      const bare = withExtra(withExtra(now, 'InfoHash', undefined), 'Pieces', undefined);
      const { fileHash, sizeBytes: fileSize } = torrent;
      await narInfos.write({ ...bare, url, compression, fileHash, fileSize });
      const known = catalogue.byStorePath(storePath);
      const askedBy = known === undefined || isOnlyOfNix(known) ? 'publish' : known.askedBy;
      entries.push(entryOf(torrent, storePath, mtimeMs, askedBy, narHash));
      old.push(now);
      isUsed = true;
    }
    if (!isUsed) continue;
    sums.nars++;
    sums.bytes += torrent.sizeBytes;
    sums.narBytes += narSize;
    for (const bytes of files.values()) sums.fileBytes += bytes;
  }
  await store.sync();
  await catalogue.add(entries);
  for (const { nar } of nars) await folder.drop(nar);
  return { sums, old };
}

/**
 * Removes the files that {@link replaceNars} has replaced, as a garbage collector does: announces itself first, then
 * reads the claims. Leaves to the garbage collector files that another narinfo names, that were served within the last
 * minutes, or that another process has claimed: a fetch may write the narinfo that it has read before.
 *
 * @param old the narinfos as they were
 * @throws STORE_UNWRITABLE; the signal's reason
 */
export async function removeReplaced(store: FileStore, old: readonly NarInfo[], signal: AbortSignal): Promise<void> {
  if (old.length === 0) return;
  await using _ = await Turn.wait(store, 'collecting', { signal });
  const left = new Set<string | undefined>();
  for await (const { storeHash, narName } of readClaims(store, new Date())) left.add(storeHash).add(narName);
  const servedSinceMs = Date.now() - BEING_SERVED_MS;
  for await (const { name, atMs } of readLastServed(store)) if (atMs > servedSinceMs) left.add(name);
  const users = await NarUsers.read(store);
  for (const info of old) {
    const name = narNameOf(info.url);
    if (left.has(storeHashOf(info.storePath)) || left.has(name) || users.has(info.url)) continue;
    await remove(store.narPath(info));
    await forgetServed(store, name);
  }
}

interface ReplaceOptions {
  readonly store: FileStore;
  readonly folder: Pick<ExportFolder, 'placeAndKeep' | 'drop'>;
  readonly catalogue: Pick<Catalogue, 'add' | 'byStorePath'>;
  /** `Compression` of the new files. */
  readonly compression: string;
}
