import type { Upstream } from '../http/upstream.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { hashNars } from '../store/hash-pool.ts';
import { narTorrent, type NarTorrent } from '../torrent/canonical.ts';
import type { Closure } from './closure.ts';
import type { NarJob } from './job.ts';
import { namedFile, withoutName } from './named-file.ts';

/** What a fetch has to do, before a byte of a NAR moved. */
export interface Plan {
  readonly jobs: readonly NarJob[];
  /** NARs of which no file is named that can be believed: only an upstream can send them, and only NarHash judges them. */
  readonly unsized: readonly NarInfo[];
  /** Paths whose NAR lies in the file store already. */
  readonly inStore: readonly NarInfo[];
  /** Those NARs of `inStore` that were read through just now, with the torrents that this gave. */
  readonly verified: readonly NarJob[];
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
 * A NAR file counts as held where the catalogue has an entry for it with this size and time of change, which is
 * written only after the file was on the disk. Any other is read through: an interrupted run left it, or a power
 * cut, or somebody else filled this store. Whether a narinfo lies beside it says nothing.
 *
 * @param context.needed paths that the target store lacks; undefined: all count as lacking
 * @param context.preferredOf the upstream that is to be asked first for what a narinfo names
 */
export async function planFetch(
  closure: Closure,
  context: {
    store: FileStore;
    catalogue: Catalogue;
    needed: ReadonlySet<string> | undefined;
    preferredOf?: (info: NarInfo) => Upstream | undefined;
    signal: AbortSignal;
  },
): Promise<Plan> {
  const { store, catalogue, needed, preferredOf, signal } = context;
  const unsized: NarInfo[] = [];
  const valid: NarInfo[] = [];
  const byFileHash = new Map<string, NarJob & { storePaths: StorePath[] }>();
  for (const info of closure.values()) {
    const { storePath } = info;
    if (needed !== undefined && !needed.has(storePath)) {
      valid.push(info);
      continue;
    }
    const file = namedFile(info);
    const known = file && byFileHash.get(file.fileHash);
    // One file is not two NARs: one of the two narinfos lies.
    if (file === undefined) unsized.push(info);
    else if (known !== undefined && known.info.narHash !== info.narHash) unsized.push(withoutName(info));
    else if (known !== undefined) known.storePaths.push(storePath);
    else {
      const preferred = preferredOf?.(info);
      byFileHash.set(file.fileHash, { ...file, info, storePaths: [storePath], preferred, torrent: undefined });
    }
  }
  const nars = [...byFileHash.values()];
  const held = new Set<NarJob>();
  const unsure: NarJob[] = [];
  const look = async (nar: NarJob): Promise<void> => {
    const file = await store.statNar(localOf(nar));
    if (file?.sizeBytes !== nar.sizeBytes) return;
    const { fileHash } = nar;
    if (nar.storePaths.some((storePath) => catalogue.knows({ storePath, fileHash }, file) !== undefined)) held.add(nar);
    else unsure.push(nar);
  };
  for (let at = 0; at < nars.length; at += CHUNK) await Promise.all(nars.slice(at, at + CHUNK).map(look));

  const verified = await readThrough(unsure, store, signal);
  for (const nar of verified) held.add(nar);
  const jobs = nars.filter((nar) => !held.has(nar));
  return {
    jobs,
    unsized,
    inStore: nars.filter((nar) => held.has(nar)).map((nar) => nar.info),
    verified,
    valid,
    jobBytes: bytesOf(jobs),
    storeBytes: bytesOf(held),
  };
}

/**
 * Gives each job the torrent that is known of its NAR.
 *
 * @param isTooLate true once the jobs are at work without: from then on no torrent is given
 */
export async function attachTorrents(
  jobs: readonly NarJob[],
  torrentOf: (info: NarInfo) => Promise<NarTorrent | undefined>,
  isTooLate: () => boolean = () => false,
): Promise<void> {
  const attach = async (job: NarJob): Promise<void> => {
    const torrent = await torrentOf(job.info);
    if (!isTooLate()) job.torrent = torrent;
  };
  for (let at = 0; at < jobs.length && !isTooLate(); at += CHUNK)
    await Promise.all(jobs.slice(at, at + CHUNK).map(attach));
}

/** Those NARs whose file has the right SHA-256, each with the torrent that reading it gave. */
async function readThrough(nars: readonly NarJob[], store: FileStore, signal: AbortSignal): Promise<NarJob[]> {
  const items = nars.map((nar) => ({ nar, path: store.narPath(localOf(nar)), sizeBytes: nar.sizeBytes }));
  const right: NarJob[] = [];
  for await (const { item, hashes } of hashNars(items, signal)) {
    const { nar } = item;
    if (hashes?.fileHash !== nar.fileHash || hashes.sizeBytes !== nar.sizeBytes) continue;
    nar.torrent = narTorrent({ ...hashes, extension: nar.extension });
    right.push(nar);
  }
  return right;
}

/** Where this store keeps the NAR of a job. */
function localOf({ fileHash, extension, info }: NarJob): Pick<NarInfo, 'url' | 'storePath'> {
  return { url: FileStore.narUrl(fileHash, extension), storePath: info.storePath };
}

function bytesOf(nars: Iterable<NarJob>): number {
  let sum = 0;
  for (const { sizeBytes } of nars) sum += sizeBytes;
  return sum;
}
