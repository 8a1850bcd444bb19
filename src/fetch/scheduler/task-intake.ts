import type { Upstream } from '../../http/upstream.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { HeldNars } from '../../serve/held-nars.ts';
import type { PartialSession } from '../../store/session.ts';
import type { Network } from '../../swarm/network.ts';
import type { NarJob } from '../plan/job.ts';
import { ORDERED_SLOTS } from './lanes.ts';
import type { MemberLane } from './member-lane.ts';
import type { TaskFiles } from './task-files.ts';
import type { TaskOutcomes } from './task-outcomes.ts';
import type { TaskQueues } from './task-queues.ts';
import { inFetchOrder, newTask, type Task } from './task.ts';

/** Looks up the torrent of a narinfo's file in the hash maps. */
export type TorrentOf = (info: NarInfo) => Promise<NarJob['torrent']>;

/** Returns the place of a NAR in the import, from 0 for the first to 1. */
export type PlaceOf = (job: NarJob) => number;

export interface TaskIntakeOptions {
  readonly session: PartialSession;
  readonly network: Network | undefined;
  readonly upstreams: readonly Upstream[];
  readonly held: Pick<HeldNars, 'isShared'> | undefined;
  readonly queues: TaskQueues;
  readonly files: TaskFiles;
  readonly outcomes: TaskOutcomes;
  /** Returns the lane of the members; undefined if there is none. */
  readonly members: () => MemberLane | undefined;
}

/** Makes tasks of jobs, before a fetch or while it runs, and gives torrents to those that wait. */
export class TaskIntake {
  readonly #options: TaskIntakeOptions;
  #jobs = 0;
  #bytes = 0;
  #isOrdered = false;

  constructor(options: TaskIntakeOptions) {
    this.#options = options;
  }

  /** True if an import wants the NARs in the order in which they wait. */
  get isOrdered(): boolean {
    return this.#isOrdered;
  }

  /** Number of jobs so far. */
  get jobs(): number {
    return this.#jobs;
  }

  /**
   * Queues the tasks of jobs, in the order of the fetch. Opens those that an earlier run began, and settles those that
   * it completed.
   *
   * @param options.placeOf undefined: the order does not matter
   * @param options.arrangesAll true to put all waiting tasks into this order. Default: the new ones come behind the others
   */
  async take(
    jobs: readonly NarJob[],
    signal: AbortSignal,
    { placeOf, arrangesAll = false }: { readonly placeOf: PlaceOf | undefined; readonly arrangesAll?: boolean },
  ): Promise<void> {
    const { session, queues, files, outcomes, members } = this.#options;
    this.#jobs += jobs.length;
    for (const { sizeBytes } of jobs) this.#bytes += sizeBytes;
    session.hashThread.startFor(this.#bytes);
    const tasks = this.#inOrder(jobs, placeOf).map(newTask);
    const fetched = new Set<Task>();
    for (const task of tasks) {
      task.isShared = members() !== undefined && (await this.#isShared(task));
      // Opened before a lane may do so.
      if (files.hasTraces(task) && (await files.open(task)) === undefined) fetched.add(task);
    }
    // From here on nothing is awaited: an upstream must not get a NAR before members are asked for it.
    for (const task of tasks) {
      queues.add(task);
      if (fetched.has(task)) {
        queues.take(task);
        outcomes.fetched(task);
      } else if (isComplete(task)) outcomes.settle(task, signal);
    }
    if (arrangesAll) this.#arrange(placeOf);
    const isNew = new Set(tasks);
    members()?.add([...queues.waiting()].filter((task) => isNew.has(task)));
    queues.sort();
  }

  /**
   * Gives torrents to NARs without one, because a hash map was found late. Members are asked for those that wait, and may
   * take over those that another lane is fetching.
   */
  async attach(torrentOf: TorrentOf, signal: AbortSignal): Promise<void> {
    const { queues, outcomes, members } = this.#options;
    const waiting: Found[] = [];
    for (const found of await this.#findTorrents(torrentOf)) {
      if (queues.take(found.task)) waiting.push(found);
      else if (this.#mayLearn(found.task)) {
        learn(found);
        members()?.watch(found.task);
      }
    }
    await Promise.all(waiting.map(async ({ task }) => members()?.pause(task)));
    for (const found of waiting) {
      learn(found);
      queues.queue(found.task);
    }
    const tasks = waiting.map(({ task }) => task);
    members()?.add(tasks.filter((task) => !isComplete(task)));
    for (const task of tasks.filter(isComplete)) outcomes.settle(task, signal); // completed meanwhile
  }

  /** Looks up the torrents of all open tasks without one. None is taken from its source before all are known. */
  async #findTorrents(torrentOf: TorrentOf): Promise<Found[]> {
    const { open } = this.#options.queues;
    const found: Found[] = [];
    for (const task of open) {
      const { job } = task;
      const torrent = job.torrent === undefined ? await torrentOf(job.info) : undefined;
      if (torrent !== undefined) found.push({ task, job, torrent });
    }
    return found.filter(({ task, job }) => open.has(task) && task.job === job && job.torrent === undefined);
  }

  /** Returns true if a NAR that a lane works on still arrives. The pieces of a complete one are no longer checked. */
  #mayLearn(task: Task): boolean {
    return task.partial === undefined ? !this.#options.files.hasBegun(task) : !isComplete(task);
  }

  #arrange(placeOf: PlaceOf | undefined): void {
    const { queues } = this.#options;
    const waiting = new Map(Array.from(queues.waiting(), (task) => [task.job, task]));
    queues.arrange(this.#inOrder([...waiting.keys()], placeOf).flatMap((job) => waiting.get(job) ?? []));
  }

  #inOrder(jobs: readonly NarJob[], placeOf: PlaceOf | undefined): NarJob[] {
    const { network, upstreams } = this.#options;
    const atOnce = upstreams.length === 0 ? 1 : ORDERED_SLOTS;
    // Several machines that fetch in the same order would each ask the upstream for the same NARs.
    const place = (network?.members.open.size ?? 0) > 1 ? undefined : placeOf;
    this.#isOrdered = place !== undefined;
    return inFetchOrder(jobs, place, atOnce);
  }

  /** Returns true if others may hear that we want a NAR: a hash map names it, or a share-key has signed it. */
  async #isShared({ job: { torrent, info } }: Task): Promise<boolean> {
    return torrent !== undefined || (await this.#options.held?.isShared(info)) === true;
  }
}

/** A task and the torrent of its file. */
interface Found {
  readonly task: Task;
  readonly job: NarJob;
  readonly torrent: NonNullable<NarJob['torrent']>;
}

/** Gives a task its torrent, unless an earlier run has saved other pieces: one of the two hash maps is wrong. */
function learn({ task, job, torrent }: Found): void {
  if (task.partial?.learn(torrent.pieces) !== false) job.torrent = torrent;
  task.isShared = true;
}

function isComplete({ partial }: Task): boolean {
  return partial?.missing().length === 0;
}
