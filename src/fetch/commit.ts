import type { NarInfo } from '../nix/narinfo.ts';
import { formatNarInfo, withExtra } from '../nix/narinfo.ts';
import { Catalogue, entryOf, pendingEntry, type CatalogueEntry } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { extensionOf } from '../torrent/canonical.ts';
import type { NarJob } from './job.ts';

/**
 * Makes what was fetched visible: first waits until the NARs are on the disk, then writes the narinfos, each after
 * those that it refers to, then lists the NARs in the catalogue, so that a daemon may serve them.
 *
 * @param infos in an order in which references come first
 */
export async function commit(infos: readonly NarInfo[], jobs: readonly NarJob[], store: FileStore): Promise<void> {
  await store.sync();
  for (const info of infos) {
    const local = asLocal(info);
    const kept = await store.readNarInfoOf(info.storePath);
    if (kept === undefined || formatNarInfo(kept) !== formatNarInfo(local)) await store.writeNarInfo(local);
  }
  const catalogue = await Catalogue.open(store);
  const torrents = new Map(jobs.map((job) => [job.fileHash, job.torrent]));
  const entries: CatalogueEntry[] = [];
  for (const info of infos) {
    if (info.fileHash === undefined) continue;
    const local = asLocal(info);
    const file = await store.statNar(local);
    if (file === undefined || file.sizeBytes !== info.fileSize) continue;
    const torrent = torrents.get(info.fileHash);
    const known = catalogue.byStorePath(info.storePath);
    if (torrent !== undefined) entries.push(entryOf(torrent, info.storePath, file.mtimeMs, 'fetch'));
    else if (known?.fileHash !== info.fileHash || known.mtimeMs !== file.mtimeMs) {
      const nar = { fileHash: info.fileHash, extension: extensionOf(info.compression), ...file };
      entries.push(pendingEntry(nar, info.storePath, 'fetch'));
    }
  }
  await catalogue.add(entries);
}

/** The narinfo as this store has it: its own name for the NAR, and none of a hash map's fields. */
function asLocal(info: NarInfo): NarInfo {
  const bare = withExtra(withExtra(info, 'InfoHash', undefined), 'Pieces', undefined);
  if (info.fileHash === undefined) return bare;
  return { ...bare, url: FileStore.narUrl(info.fileHash, extensionOf(info.compression)) };
}
