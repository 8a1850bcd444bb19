import { NarswarmError } from '../errors.ts';
import type { FileHash } from '../nix/brands.ts';
import type { PartialNar } from '../store/partial.ts';
import type { NarJob } from './job.ts';

/** From this size on a NAR is begun early, or it would be the one that everything else waits for. */
const LARGE_BYTES = 8 * 1024 * 1024;

/** A NAR of which so little is left stays with its peers. */
const HAND_OVER_BYTES = 64 * 1024;

/** A NAR on its way through the lanes of the scheduler. */
export interface Task {
  job: NarJob;
  /** Files of the NAR that were asked for: first the one that its narinfo named, last the job's. */
  readonly files: Set<FileHash>;
  /** Aborted when an upstream is to take the task from the peers. */
  handOver: AbortController;
  partial: PartialNar | undefined;
  peersTried: boolean;
  attempts: number;
  /** What the upstreams said, where none could deliver it: then it is the peers' alone as long as they send. */
  upstreamFailure: unknown;
  /** Bytes held when it was last given up on. */
  heldBytes: number;
  /** How often each upstream, by its name, sent wrong bytes of this NAR. */
  readonly lies: Map<string, number>;
}

/** A task that nobody has begun. */
export function newTask(job: NarJob): Task {
  return {
    job,
    files: new Set([job.fileHash]),
    handOver: new AbortController(),
    partial: undefined,
    peersTried: false,
    attempts: 0,
    upstreamFailure: undefined,
    heldBytes: 0,
    lies: new Map(),
  };
}

/** Large NARs first, the rest in random order: a cohort that starts at once must not ask the seeder for the same one. */
export function inFetchOrder(jobs: readonly NarJob[]): NarJob[] {
  const shuffled = jobs.map((job) => ({ job, key: Math.random() + (job.sizeBytes >= LARGE_BYTES ? -1 : 0) }));
  return shuffled.toSorted((a, b) => a.key - b.key).map(({ job }) => job);
}

/** The task with most left to do, which everything else would wait for, of those that an upstream may have. */
export function slowest(tasks: Iterable<Task>): Task | undefined {
  const left = (task: Task): number => task.job.sizeBytes - (task.partial?.heldBytes ?? 0);
  return [...tasks]
    .filter((task) => !task.handOver.signal.aborted && task.upstreamFailure === undefined)
    .filter((task) => left(task) > HAND_OVER_BYTES || left(task) === task.job.sizeBytes)
    .toSorted((a, b) => left(b) - left(a))[0];
}

/** What each upstream said, in one line. */
export function reasonsOf(error: unknown): string {
  const errors: unknown[] = error instanceof AggregateError && error.errors.length > 0 ? error.errors : [error];
  return errors.map((one) => (one instanceof Error ? one.message : String(one))).join('; ');
}

export function unavailable(job: NarJob, reason: string, cause?: unknown): NarswarmError {
  return new NarswarmError('NAR_UNAVAILABLE', `cannot fetch ${job.info.storePath}: ${reason}`, {
    facts: { path: job.info.storePath, fileHash: job.fileHash, why: reason },
    ...(cause === undefined ? {} : { cause }),
  });
}

export function summary(failures: readonly unknown[], total: number): NarswarmError {
  const first = failures[0] instanceof Error ? failures[0].message : String(failures[0]);
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more)` : '';
  const kept = failures.length < total ? '; the others are kept' : '';
  return new NarswarmError(
    'NAR_UNAVAILABLE',
    `${failures.length} of ${total} NARs could not be fetched: ${first}${more}${kept}`,
    {
      cause: new AggregateError(failures),
      facts: { failed: failures.length, total },
    },
  );
}
