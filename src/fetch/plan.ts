import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { FileStore } from '../store/file-store.ts';
import { extensionOf, type NarTorrent } from '../torrent/canonical.ts';
import type { Closure } from './closure.ts';
import type { NarJob } from './job.ts';

/** What a fetch has to do, before a byte of a NAR moved. */
export interface Plan {
  readonly jobs: readonly NarJob[];
  /** NARs without FileHash or FileSize: only an upstream can send them and only NarHash tells whether they are right. */
  readonly unsized: readonly NarInfo[];
  /** Paths whose NAR lies in the file store already. */
  readonly inStore: readonly NarInfo[];
  /** Paths that the target store holds, whose NAR is not needed. */
  readonly valid: readonly NarInfo[];
  /** Bytes to download, those of `unsized` aside. */
  readonly jobBytes: number;
  /** Bytes of the NARs that the file store holds. */
  readonly storeBytes: number;
}

/** Paths looked at at once: each is a stat. */
const CHUNK = 64;

/**
 * Sorts the paths of a closure into those whose NAR has to come from somewhere and the rest.
 *
 * @param needed paths that the target store lacks; undefined: all count as lacking
 * @param torrentOf the torrent that a hash map has for a narinfo
 */
export async function planFetch(
  closure: Closure,
  context: {
    store: FileStore;
    needed: ReadonlySet<StorePath> | undefined;
    torrentOf: (info: NarInfo) => Promise<NarTorrent | undefined>;
  },
): Promise<Plan> {
  const { store, needed, torrentOf } = context;
  const jobs = new Map<string, NarJob & { storePaths: StorePath[] }>();
  const unsized: NarInfo[] = [];
  const inStore: NarInfo[] = [];
  const valid: NarInfo[] = [];
  let jobBytes = 0;
  let storeBytes = 0;
  const place = async (info: NarInfo): Promise<void> => {
    if (needed !== undefined && !needed.has(info.storePath)) {
      valid.push(info);
      return;
    }
    const { fileHash, fileSize } = info;
    if (fileHash === undefined || fileSize === undefined) {
      unsized.push(info);
      return;
    }
    const extension = extensionOf(info.compression);
    const known = jobs.get(fileHash);
    if (known !== undefined) {
      known.storePaths.push(info.storePath);
      return;
    }
    const job = { fileHash, sizeBytes: fileSize, extension, info, storePaths: [info.storePath], torrent: undefined };
    jobs.set(fileHash, job); // before the first wait, so that a second path with this NAR finds it
    if (await isInStore(store, info, extension)) {
      jobs.delete(fileHash);
      inStore.push(info);
      storeBytes += fileSize;
      return;
    }
    jobs.set(fileHash, Object.assign(job, { torrent: await torrentOf(info) }));
    jobBytes += fileSize;
  };
  const infos = [...closure.values()];
  for (let at = 0; at < infos.length; at += CHUNK) await Promise.all(infos.slice(at, at + CHUNK).map(place));
  return { jobs: [...jobs.values()], unsized, inStore, valid, jobBytes, storeBytes };
}

/**
 * True where the store holds the NAR and a narinfo that vouches for it. A NAR without a narinfo is what an interrupted
 * run left: the scheduler reads it through before it counts.
 */
async function isInStore(store: FileStore, info: NarInfo, extension: string): Promise<boolean> {
  if (info.fileHash === undefined) return false;
  const local = { ...info, url: FileStore.narUrl(info.fileHash, extension) };
  if ((await store.narSizeOf(local)) !== info.fileSize) return false;
  const kept = await store.readNarInfoOf(info.storePath);
  return kept?.fileHash === info.fileHash;
}
