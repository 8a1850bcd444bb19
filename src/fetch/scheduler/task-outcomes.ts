import { isNarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import type { Tell } from '../events.ts';
import type { NarJob } from '../plan/job.ts';
import type { MemberLane } from './member-lane.ts';
import type { NarJudge, Verdict } from './nar-judge.ts';
import type { TakeOvers } from './take-overs.ts';
import type { TaskFiles } from './task-files.ts';
import type { TaskQueues } from './task-queues.ts';
import { isOnlyForUpstreams, type Task } from './task.ts';

export interface TaskOutcomesOptions {
  readonly queues: TaskQueues;
  readonly takeOvers: TakeOvers<Task>;
  readonly files: TaskFiles;
  readonly judge: NarJudge;
  /** Returns the lane of the members; undefined before it is there. */
  readonly members: () => MemberLane | undefined;
  /** Called with each NAR as soon as it is verified and in the store. */
  readonly onFetched: (job: NarJob, how: { readonly isOfMembers: boolean }) => void;
  /** Called if the store can no longer be written. */
  readonly onStoreFailure: (error: unknown) => void;
  readonly tell: Tell;
}

/** Works on tasks and records how it ends: the NAR is in the store, its task is queued again, or it has failed. */
export class TaskOutcomes {
  readonly #options: TaskOutcomesOptions;
  /** Tasks by the store path of their job, which stays the same if its file changes. */
  readonly #failures = new Map<StorePath, unknown>();
  readonly #fetched = new Set<StorePath>();
  /** Complete NARs that are being settled. */
  readonly #settling = new Set<Promise<void>>();

  constructor(options: TaskOutcomesOptions) {
    this.#options = options;
  }

  /** Returns true once the NAR of a job is in the store. */
  hasFetched(job: NarJob): boolean {
    return this.#fetched.has(job.info.storePath);
  }

  /** Returns why the NAR of a job could not be fetched, if it was tried. */
  failureOf(job: NarJob): unknown {
    return this.#failures.get(job.info.storePath);
  }

  /** The failures so far. */
  get failures(): unknown[] {
    return [...this.#failures.values()];
  }

  /** Resolves once all complete NARs are settled. */
  async settled(): Promise<void> {
    await Promise.all(this.#settling);
  }

  /** Lets a lane work on a task that it has taken. */
  async work(task: Task, byLane: () => Promise<Verdict>, signal: AbortSignal): Promise<void> {
    await this.#options.members()?.pause(task);
    await this.#do(task, byLane, signal);
  }

  /** Settles a task whose bytes are all here, unless a lane has it. */
  settle(task: Task, signal: AbortSignal): void {
    const { queues, judge } = this.#options;
    if (!queues.take(task)) return;
    const settling = this.#do(task, () => judge.settle(task, signal), signal).finally(() =>
      this.#settling.delete(settling),
    );
    this.#settling.add(settling);
  }

  /** Records that the NAR of a task is in the store. */
  fetched(task: Task): void {
    const { queues, takeOvers, members, onFetched, tell } = this.#options;
    const { job, named } = task;
    this.#fetched.add(job.info.storePath);
    takeOvers.end(task, 'fetched');
    const sizes = { sizeBytes: job.sizeBytes, ...(named === undefined ? {} : { cacheBytes: named.fileSize }) };
    tell({ type: 'nar-fetched', nar: job.fileHash, ...sizes });
    onFetched(job, { isOfMembers: task.isOfMembers });
    members()?.drop(task, { isRight: true });
    queues.settle(task);
  }

  /** Ends a task that failed, unless the run ends: then its bytes are kept for the next run. */
  async fail(task: Task, error: unknown, signal: AbortSignal): Promise<void> {
    const { queues, takeOvers, files, members, onStoreFailure } = this.#options;
    takeOvers.end(task, 'left');
    if (!signal.aborted) members()?.drop(task, { isRight: false });
    await files.forget(task);
    if (signal.aborted) return;
    if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) {
      onStoreFailure(error);
      return;
    }
    this.#failures.set(task.job.info.storePath, error);
    queues.settle(task);
  }

  async #do(task: Task, work: () => Promise<Verdict>, signal: AbortSignal): Promise<void> {
    const { queues, takeOvers, members } = this.#options;
    const file = task.job.fileHash; // members know the task by it, even if it continues as another file
    try {
      if ((await work()) === 'fetched' || (await this.#isComplete(task, signal))) {
        this.fetched(task);
        return;
      }
      takeOvers.end(task, 'left');
      if (task.job.fileHash !== file) members()?.drop({ ...task, files: new Set([file]) }, { isRight: false });
      if (isOnlyForUpstreams(task)) members()?.drop(task, { isRight: false });
      else members()?.add([task]);
      queues.queue(task);
    } catch (error) {
      await this.fail(task, error, signal);
    }
  }

  /** Returns true if the last bytes came while the task was handed over. Then no source is asked, and it is settled. */
  async #isComplete(task: Task, signal: AbortSignal): Promise<boolean> {
    await task.partial?.drain();
    return task.partial?.missing().length === 0 && (await this.#options.judge.settle(task, signal)) === 'fetched';
  }
}
