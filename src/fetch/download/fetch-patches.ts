import PQueue from 'p-queue';
import { applyPatch } from '../../delta/apply.ts';
import { PatchList, patchUrl } from '../../store/patch-list.ts';
import { PATCH_EXTENSION } from '../../delta/record.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import { failureOf } from '../../failure.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { NarTorrent } from '../../torrent/canonical.ts';
import type { NarJob } from '../plan/job.ts';
import { writeMadeNar, type MadeNar } from '../plan/made-nar.ts';
import type { PlannedPatch } from '../plan/patch-choice.ts';
import { PatchMirrors } from './patch-mirrors.ts';
import type { SchedulerOptions } from '../scheduler/scheduler-options.ts';
import { Scheduler } from '../scheduler/scheduler.ts';

/** Time without a byte of any patch, or from a mirror, after which the NARs are fetched whole, if a cache can give these. */
const STANDSTILL_MS = 5_000;
/** The same if only peers can: these may be about to appear. */
const ALONE_MS = 20_000;

type PatchScheduling = 'order' | 'standstillMs' | 'waitsForPeers' | 'mayBeUncompressed' | 'placeOf' | 'onFetched';

/** `upstreams` are those of the whole NARs: they have no patches. */
export interface FetchPatchesContext extends Omit<SchedulerOptions, PatchScheduling> {
  /** Called with each NAR that was made, with its file in the store. */
  readonly onMade: (job: NarJob, info: NarInfo, torrent: NarTorrent) => void;
  /** Called with each NAR whose patch could not be fetched, or was wrong. It is to be fetched whole. */
  readonly onFailed: (job: NarJob) => Promise<void>;
  readonly signal: AbortSignal;
}

/**
 * Fetches patches from peers and from the HTTP mirrors of hash maps, and makes NARs out of them, one at a time: so they take
 * the memory of one (delta/format.ts). A NAR counts only if it has the signed NarHash. The patches stay in the store, for
 * others.
 *
 * @throws STORE_FULL, STORE_UNWRITABLE at once; the signal's reason
 */
export async function fetchPatches(
  patches: ReadonlyMap<NarJob, PlannedPatch>,
  context: FetchPatchesContext,
): Promise<void> {
  const { tell, onMade, onFailed } = context;
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const left = new Map(Array.from(patches, ([job, patch]) => [patchJobOf(job, patch), { job, patch }] as const));
  const byPath = new Map(Array.from(left.keys(), (patchJob) => [patchJob.info.storePath, patchJob]));
  const handedOver: Promise<void>[] = [];
  const making = new PQueue({ concurrency: 1 });
  const list = new PatchList(context.store);
  const make = async (patchJob: NarJob): Promise<void> => {
    const planned = left.get(patchJob);
    if (planned === undefined || signal.aborted) return;
    const { job, patch } = planned;
    try {
      const { info, torrent } = await makeNar(job, patch, { ...context, list, signal });
      left.delete(patchJob);
      tell({ type: 'nar-fetched', nar: patchJob.fileHash, sizeBytes: patchJob.sizeBytes });
      tell({ type: 'nar-patched', patchBytes: patchJob.sizeBytes, fileBytes: job.sizeBytes });
      onMade(job, info, torrent);
    } catch (error) {
      if (signal.aborted) return;
      if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) stop.abort(error);
      else fail(patchJob, error);
    }
  };
  const fail = (patchJob: NarJob, error: unknown, others = 0): void => {
    if (!left.has(patchJob)) return;
    const { storePath: path } = patchJob.info;
    tell({ type: 'warning', warning: { kind: 'wrong-patch', path, others, failure: failureOf(error) } });
    handOver(patchJob);
  };
  const handOver = (patchJob: NarJob): void => {
    const planned = left.get(patchJob);
    if (planned === undefined) return;
    left.delete(patchJob);
    const { job } = planned;
    tell({ type: 'downloading', nars: 0, bytes: job.sizeBytes - patchJob.sizeBytes });
    handedOver.push(onFailed(job));
  };
  const standstillMs = context.upstreams.length > 0 ? STANDSTILL_MS : ALONE_MS;
  const deltas = Array.from(patches.values(), ({ delta }) => delta);
  const mirrors = new PatchMirrors(deltas, context.http, standstillMs);
  const scheduler = new Scheduler({
    ...context,
    http: mirrors,
    upstreams: mirrors.upstreams,
    order: mirrors.order,
    standstillMs,
    waitsForPeers: true,
    mayBeUncompressed: false, // the NAR itself is no patch
    tell: (event) => {
      if (event.type === 'nar-fetched') return; // reported once the NAR is made
      if (event.type === 'warning' && event.warning.kind === 'peers-again') return; // reported if peers do not have it either
      tell(event);
    },
    onFetched: ({ info: { storePath } }) => {
      const patchJob = byPath.get(storePath);
      if (patchJob !== undefined) void making.add(() => make(patchJob));
    },
  });
  try {
    await scheduler.run([...left.keys()], signal).catch((error: unknown) => {
      if (!isNarswarmError(error, 'NAR_UNAVAILABLE', 'INTERRUPTED')) throw error;
    });
  } catch (error) {
    stop.abort(error);
  } finally {
    await making.onIdle();
  }
  signal.throwIfAborted();
  const [first, ...others] = left.keys();
  if (first !== undefined) fail(first, scheduler.failureOf(first), others.length);
  for (const patchJob of others) handOver(patchJob);
  await Promise.all(handedOver);
}

/** Makes the job of a patch. Code that does not know patches treats its file as a NAR without compression. */
function patchJobOf(job: NarJob, { delta: { torrent } }: PlannedPatch): NarJob {
  const { fileHash, sizeBytes } = torrent;
  const info = { ...job.info, url: patchUrl(torrent), compression: 'none', fileHash, fileSize: sizeBytes };
  return { fileHash, sizeBytes, extension: PATCH_EXTENSION, info, storePaths: job.storePaths, torrent };
}

/** Makes a NAR out of its base, and puts it into the store. @throws HASH_MISMATCH if it is not the signed one */
async function makeNar(
  { info }: NarJob,
  { delta, base }: PlannedPatch,
  context: FetchPatchesContext & { readonly list: PatchList },
): Promise<MadeNar> {
  const { list, signal } = context;
  const { narHash, narSize, storePath } = info;
  const made = await writeMadeNar(
    applyPatch(list.pathOf(delta), base.open(signal), { narSize, signal }),
    info,
    context,
  );
  if (made === undefined) throw wrongContents(info);
  await list.add({ ...delta, storePath, narHash });
  return made;
}

function wrongContents({ storePath }: NarInfo): NarswarmError {
  const message = `a patch of ${storePath} gives other contents than were signed`;
  return new NarswarmError('HASH_MISMATCH', message, { facts: { path: storePath } });
}
