import { NarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { FileDescription } from '../../nix/narinfo.ts';
import type { PartialNar } from '../../store/partial.ts';
import type { NarJob } from '../plan/job.ts';
import { failuresOf } from '../../failure.ts';

/** Size from which a NAR is begun early, so that the end does not wait for it. */
const LARGE_BYTES = 8 * 1024 * 1024;

/** Largest remaining size of a NAR that stays with its source. */
export const HAND_OVER_BYTES = 64 * 1024;

/** Limit on attempts for a NAR after wrong bytes of an unknown sender, or when no source had more of it. */
export const ATTEMPTS = 4;

/** Wrong NARs of members after which only upstreams are asked for it: there may be any number of liars. */
const WRONG_OF_MEMBERS = 2;

/** A NAR on its way through the lanes of the scheduler. */
export interface Task {
  job: NarJob;
  /** The files of the NAR that were requested: first the one that its narinfo named, last the job's. */
  readonly files: Set<FileHash>;
  /** Aborted when another source should take the task from its lane. */
  handOver: AbortController;
  partial: PartialNar | undefined;
  /** The file that its narinfo named, while it is fetched uncompressed instead. */
  named: Required<FileDescription> | undefined;
  /** How often it went on with its other file: see {@link UncompressedNars}. */
  changes: number;
  /** Number of looks in a row at which no member had it. */
  looksWithout: number;
  peersTried: boolean;
  attempts: number;
  /** The failures of the upstreams, if none could deliver it. Then it is left to the peers while they send. */
  upstreamFailure: unknown;
  /** Bytes held when it was last given up. */
  heldBytes: number;
  /** How often each upstream, by name, sent wrong bytes of this NAR. */
  readonly lies: Map<string, number>;
  /** How often bytes of members were wrong although an upstream could have been asked. */
  wrongOfMembers: number;
  /** True if some bytes of it were wrong, and nobody knows who sent them. */
  isLiarUnknown: boolean;
  /** Since when members have it, or a part of it, and no lane works on it. -Infinity if none has. */
  atMembersSinceMs: number;
  /** True once an upstream has taken it because members were too slow. Then it stays there. */
  isHelped: boolean;
  /** Bytes a second of all peers at that moment. */
  peersBytesPerSec: number;
  /** When upstreams were last asked for it. */
  atUpstreamsMs: number;
  /** How often it was taken from silent upstreams for members. */
  timesLeft: number;
  /** False once bytes came from a source outside our groups. */
  isOfMembers: boolean;
  /** True if others may hear that this NAR is wanted, since it is shared. */
  isShared: boolean;
}

/** Makes a task that is not begun. */
export function newTask(job: NarJob): Task {
  return {
    job,
    files: new Set([job.fileHash]),
    handOver: new AbortController(),
    partial: undefined,
    named: undefined,
    changes: 0,
    looksWithout: 0,
    peersTried: false,
    attempts: 0,
    upstreamFailure: undefined,
    heldBytes: 0,
    lies: new Map(),
    wrongOfMembers: 0,
    isLiarUnknown: false,
    atMembersSinceMs: -Infinity,
    isHelped: false,
    peersBytesPerSec: 0,
    atUpstreamsMs: 0,
    timesLeft: 0,
    isOfMembers: true,
    isShared: false,
  };
}

/**
 * Spread of the order for an import, as a part of its bytes. Machines that start at once then ask for different NARs.
 */
const SPREAD = 0.03;

/**
 * Orders NARs: for an import, those that others wait for first; else large NARs first, the others at random. Machines
 * of a cohort that start at once should not ask the seeder for the same NAR.
 *
 * @param placeOf returns the place of a NAR in the import, from 0 for the first to 1
 * @param atOnce NARs that are sent at the same time. A large one takes as long as that many times its size, and begins
 *   earlier by as much
 */
export function inFetchOrder(jobs: readonly NarJob[], placeOf?: (job: NarJob) => number, atOnce = 1): NarJob[] {
  const totalBytes = jobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const keyOf = (job: NarJob): number =>
    placeOf === undefined
      ? Math.random() + (job.sizeBytes >= LARGE_BYTES ? -1 : 0)
      : placeOf(job) - ((atOnce - 1) * job.sizeBytes) / totalBytes + Math.random() * SPREAD;
  const keyed = jobs.map((job) => ({ job, key: keyOf(job) }));
  return keyed.toSorted((a, b) => a.key - b.key).map(({ job }) => job);
}

/** Returns true if members may no longer send a NAR, since upstreams can and members have sent wrong bytes of it. */
export function isOnlyForUpstreams({ wrongOfMembers, upstreamFailure }: Task): boolean {
  return wrongOfMembers >= WRONG_OF_MEMBERS && upstreamFailure === undefined;
}

/** Returns true if only members that have given right bytes may send the rest of a NAR: upstreams can, too. */
export function isOnlyForProven({ partial, upstreamFailure }: Task): boolean {
  return partial?.isDoubted === true && upstreamFailure === undefined;
}

/** Returns the bytes of a NAR that are still missing. */
export function leftOf({ job, partial }: Task): number {
  return job.sizeBytes - (partial?.heldBytes ?? 0);
}

/**
 * Returns the task with the most remaining bytes, among those that another source may have. Everything else would wait
 * for it.
 */
export function mostLeft(tasks: Iterable<Task>): Task | undefined {
  return [...tasks]
    .filter((task) => !task.handOver.signal.aborted && task.upstreamFailure === undefined)
    .filter((task) => leftOf(task) > HAND_OVER_BYTES || leftOf(task) === task.job.sizeBytes)
    .toSorted((a, b) => leftOf(b) - leftOf(a))[0];
}

/** Returns the failure of each upstream, in one line. */
export function reasonsOf(error: unknown): string {
  return failuresOf(error)
    .map(({ reason }) => reason)
    .join('; ');
}

export function unavailable(job: NarJob, reason: string, cause?: unknown): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', `cannot fetch ${job.info.storePath}: ${reason}`, {
    facts: { path: job.info.storePath, fileHash: job.fileHash, why: reason },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Makes the error of a run. People read each NAR's own failure. */
export function summary(failures: readonly unknown[], total: number): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', `${failures.length} of ${total} NARs could not be fetched`, {
    cause: new AggregateError(failures),
    facts: { failed: failures.length, total },
  });
}
