import type { Upstream } from '../../http/upstream.ts';
import type { FileHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { Catalogue } from '../../store/catalogue/catalogue.ts';
import type { Claimed } from '../../store/claims.ts';
import { FileStore } from '../../store/file-store.ts';
import { hashNars } from '../../store/hashing/hash-pool.ts';
import { narTorrent, type NarTorrent } from '../../torrent/canonical.ts';
import type { Closure } from '../walk/closure.ts';
import { newJob, type NarJob } from './job.ts';
import { namedFile } from './named-file.ts';
import type { PlannedPatch } from './patch-choice.ts';

/** The work of a fetch, before any byte of a NAR is downloaded. */
export interface Plan {
  readonly jobs: readonly NarJob[];
  /** NARs without a believable file. Only an upstream can send them, and only NarHash can check them. */
  readonly unsized: readonly NarInfo[];
  /** Paths whose NAR is already in the file store, without those of disputed files. */
  readonly inStore: readonly NarInfo[];
  /** NARs that were just read, of `inStore`, of `valid` and of disputed files, with the resulting torrents. */
  readonly verified: readonly NarJob[];
  /** Paths that the target store holds, whose NAR is not needed. */
  readonly valid: readonly NarInfo[];
  /** Those of `valid` that name a file which the store does not hold. */
  readonly unheld: readonly NarInfo[];
  /** NARs of `jobs` that a patch makes out of another NAR. */
  readonly patches: ReadonlyMap<NarJob, PlannedPatch>;
  /** Bytes to download, without those of `unsized`. */
  readonly jobBytes: number;
  /** Bytes of the NARs in the file store. */
  readonly storeBytes: number;
}

/** Paths that are checked at the same time. Each check is a stat. */
const CHUNK = 64;

/**
 * Splits the paths of a closure into those whose NAR must be fetched and the rest.
 *
 * A NAR file counts as held if the catalogue has an entry with its size and time of change, since entries are written
 * only when the file is on the disk. Any other file is read: an interrupted run or a power cut may have left it, or
 * another program filled this store. A narinfo beside it proves nothing.
 *
 * @param context.needed paths that the target store lacks. Undefined: all
 * @param context.cacheOf returns the upstream whose own narinfo a path is tried with
 * @param context.preferred true to ask that upstream first for the file
 * @param context.begun NARs that are being fetched already: they are jobs of the plan. Default: none
 */
export async function planFetch(
  closure: Claimed<Closure>,
  context: {
    store: FileStore;
    catalogue: Catalogue;
    needed: ReadonlySet<string> | undefined;
    cacheOf?: (info: NarInfo) => Upstream | undefined;
    preferred?: boolean;
    begun?: ReadonlyMap<FileHash, NarJob> | undefined;
    signal: AbortSignal;
  },
): Promise<Plan> {
  const { store, catalogue, needed, cacheOf, preferred: isPreferred = false, begun, signal } = context;
  const unsized: NarInfo[] = [];
  const valid: NarInfo[] = [];
  const byFileHash = new Map<string, NarJob>();
  /** NARs of `valid`: an interrupted import may have left them. */
  const imported: NarJob[] = [];
  for (const info of closure.values()) {
    const { storePath } = info;
    const file = namedFile(info);
    if (needed !== undefined && !needed.has(storePath)) {
      valid.push(info);
      if (file !== undefined) imported.push({ ...file, info, storePaths: [storePath], torrent: undefined });
      continue;
    }
    if (file === undefined) {
      unsized.push(info);
      continue;
    }
    const known = byFileHash.get(file.fileHash) ?? begun?.get(file.fileHash);
    if (known === undefined) {
      const cache = cacheOf?.(info);
      byFileHash.set(file.fileHash, { ...newJob(file, info, cache), preferred: isPreferred ? cache : undefined });
      continue;
    }
    byFileHash.set(file.fileHash, known);
    if (!known.storePaths.includes(storePath)) known.storePaths.push(storePath);
    // One file cannot be two NARs: one of the two narinfos lies.
    if (known.info.narHash !== info.narHash) known.isDisputed = true;
  }
  const nars = [...byFileHash.values()];
  const held = new Set<NarJob>();
  const unsure: NarJob[] = [];
  const look = async (nar: NarJob): Promise<void> => {
    const file = await store.statNar(localOf(nar));
    if (file?.sizeBytes !== nar.sizeBytes) return;
    const { fileHash } = nar;
    if (
      nar.isDisputed !== true &&
      nar.storePaths.some((storePath) => catalogue.knows({ storePath, fileHash }, file) !== undefined)
    )
      held.add(nar);
    else unsure.push(nar);
  };
  const toLook = [...nars.filter(({ fileHash }) => begun?.has(fileHash) !== true), ...imported];
  for (let at = 0; at < toLook.length; at += CHUNK) await Promise.all(toLook.slice(at, at + CHUNK).map(look));

  const verified = await readThrough(unsure, store, signal);
  for (const nar of verified) held.add(nar);
  const jobs = nars.filter((nar) => !held.has(nar));
  return {
    jobs,
    unsized,
    inStore: nars.filter((nar) => held.has(nar) && nar.isDisputed !== true).map((nar) => nar.info),
    verified,
    valid,
    unheld: imported.filter((nar) => !held.has(nar)).map((nar) => nar.info),
    patches: new Map(),
    jobBytes: bytesOf(jobs),
    storeBytes: bytesOf(nars.filter((nar) => held.has(nar))),
  };
}

/**
 * Gives each job the known torrent of its NAR.
 *
 * @param isTooLate returns true once the jobs run without torrents: then none is given
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

/** Adds patches to a plan. */
export function withPatches(plan: Plan, patches: Plan['patches']): Plan {
  const savedBytes = Array.from(patches, ([job, { delta }]) => job.sizeBytes - delta.torrent.sizeBytes);
  return { ...plan, patches, jobBytes: savedBytes.reduce((sum, bytes) => sum - bytes, plan.jobBytes) };
}

/** Counts the NARs of some paths as held, with the sizes of the files that narinfos name. */
export function asHeld(plan: Plan, paths: ReadonlySet<StorePath>): Plan {
  const held = plan.jobs.filter(({ info }) => paths.has(info.storePath));
  const jobs = plan.jobs.filter(({ info }) => !paths.has(info.storePath));
  const storeBytes = plan.storeBytes + bytesOf(held);
  return {
    ...plan,
    jobs,
    inStore: [...plan.inStore, ...held.map(({ info }) => info)],
    jobBytes: bytesOf(jobs),
    storeBytes,
  };
}

/** Reads files. @returns the NARs whose file has the right SHA-256, each with its torrent */
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

/** Returns the path at which this store keeps the NAR of a job. */
function localOf({ fileHash, extension, info }: NarJob): Pick<NarInfo, 'url' | 'storePath'> {
  return { url: FileStore.narUrl(fileHash, extension), storePath: info.storePath };
}

function bytesOf(nars: Iterable<NarJob>): number {
  let sum = 0;
  for (const { sizeBytes } of nars) sum += sizeBytes;
  return sum;
}
