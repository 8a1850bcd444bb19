import { isNarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { hashInThread } from '../bytes/hash-thread.ts';
import type { NarJob } from './job.ts';
import { LanePolicy } from './lane-policy.ts';
import { LaneWork, type LaneWorkOptions, type WorkOutcome } from './lane-work.ts';
import { TaskQueues } from './task-queues.ts';
import { inFetchOrder, newTask, summary, unavailable, type Task } from './task.ts';

export interface SchedulerOptions extends LaneWorkOptions {
  /** Without an upstream: how long all of it may stand still before the run gives up. Default 60,000. */
  readonly standstillMs?: number | undefined;
  /** Called with each NAR as soon as it is verified and in the store. */
  readonly onFetched: (job: NarJob) => void;
}

/** NARs asked of peers at once: a torrent needs its own connection, so small ones want many in parallel. */
const PEER_SLOTS = 64;
/** NARs asked of upstreams at once. */
const UPSTREAM_SLOTS = 8;

/**
 * Fetches NARs from peers and upstreams at once. Peers come first; an upstream takes what they do not have, what they
 * are slow to send, and, once they turn out slower than it is, a share of the rest: the run ends no later than
 * the upstream alone would have made it.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #policy: LanePolicy;
  readonly #queues: TaskQueues;
  readonly #work: LaneWork;
  /** By the store path of each job, which stays while its file may change. */
  readonly #failures = new Map<StorePath, unknown>();
  readonly #fetched = new Set<StorePath>();

  constructor(options: SchedulerOptions) {
    const { network, upstreams, standstillMs } = options;
    this.#options = options;
    this.#policy = new LanePolicy({
      hasUpstream: upstreams.length > 0,
      standstillMs,
      isHeldBack: () => options.limit?.isUsedUp ?? false,
    });
    this.#work = new LaneWork(options, this.#policy);
    this.#queues = new TaskQueues({
      hasPeers: network !== undefined,
      hasUpstreams: upstreams.length > 0,
      upstreamMayHelp: () => this.#upstreamMayHelp(),
    });
  }

  /**
   * Fetches every NAR into the store. What could be had is in the store even where something fails.
   *
   * @throws NAR_UNAVAILABLE with an AggregateError of what each NAR failed of; STORE_FULL, STORE_UNWRITABLE at once; the
   *   signal's reason
   */
  async run(jobs: readonly NarJob[], signal: AbortSignal): Promise<void> {
    if (jobs[0] !== undefined && this.#options.network === undefined && this.#options.upstreams.length === 0) {
      throw unavailable(jobs[0], 'there is neither an upstream nor a peer to ask');
    }
    await this.#work.begin();
    hashInThread(jobs.reduce((sum, job) => sum + job.sizeBytes, 0));
    const stop = new AbortController();
    const linked = AbortSignal.any([signal, stop.signal]);
    for (const job of inFetchOrder(jobs)) this.#queues.add(newTask(job));
    const timer = setInterval(() => this.#balance(), 250);
    const abort = (): void => this.#queues.tellChange();
    linked.addEventListener('abort', abort);
    const onPeer = (): void => this.#queues.retryPeers();
    this.#options.network?.discovery.on('peer', onPeer);
    const fatal = (error: unknown): void => stop.abort(error);
    const lanes = [
      ...Array.from({ length: this.#options.network === undefined ? 0 : PEER_SLOTS }, () =>
        this.#lane(
          () => this.#queues.nextForPeers(),
          (task) => this.#work.byPeers(task, linked),
          linked,
          fatal,
        ),
      ),
      ...Array.from({ length: this.#options.upstreams.length === 0 ? 0 : UPSTREAM_SLOTS }, () =>
        this.#lane(
          () => this.#queues.nextForUpstream(),
          (task) => this.#work.byUpstreams(task, linked),
          linked,
          fatal,
        ),
      ),
    ];
    try {
      await Promise.all(lanes);
    } finally {
      clearInterval(timer);
      this.#options.network?.discovery.off('peer', onPeer);
      await this.#work.close();
    }
    linked.throwIfAborted();
    if (this.#failures.size > 0) throw summary([...this.#failures.values()], jobs.length);
  }

  /** True once the NAR of a job lies in the store. */
  hasFetched(job: NarJob): boolean {
    return this.#fetched.has(job.info.storePath);
  }

  /** Why the NAR of a job could not be had, where it was tried. */
  failureOf(job: NarJob): unknown {
    return this.#failures.get(job.info.storePath);
  }

  /**
   * Gives torrents to the NARs that wait for an upstream and have none: a hash map was found only now. From here on they
   * wait for peers first.
   */
  attach(torrentOf: (info: NarInfo) => Promise<NarJob['torrent']>): Promise<void> {
    return this.#queues.attach(torrentOf);
  }

  /** The narinfo with the file that was fetched for it, where that is another than it named. */
  asFetched(info: NarInfo): NarInfo {
    return this.#work.asFetched(info);
  }

  /** Where the NAR of a job lies once it is verified. */
  pathOf(job: NarJob): string {
    return this.#work.pathOf(job);
  }

  /** Runs tasks one after another until all are settled. */
  async #lane(
    next: () => Task | undefined,
    work: (task: Task) => Promise<WorkOutcome>,
    signal: AbortSignal,
    fatal: (error: unknown) => void,
  ): Promise<void> {
    while (!this.#queues.isDone && !signal.aborted) {
      const task = next();
      if (task === undefined) {
        await this.#queues.changed();
        continue;
      }
      try {
        if ((await work(task)) === 'again') this.#queues.queue(task);
        else this.#tellFetched(task.job);
      } catch (error) {
        await this.#work.forget(task);
        if (signal.aborted) return;
        if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) {
          fatal(error);
          return;
        }
        this.#failures.set(task.job.info.storePath, error);
        this.#queues.settle();
      }
    }
  }

  #tellFetched(job: NarJob): void {
    this.#fetched.add(job.info.storePath);
    this.#options.tell({ type: 'nar-fetched', sizeBytes: job.sizeBytes });
    this.#options.onFetched(job);
    this.#queues.settle();
  }

  #upstreamMayHelp(): boolean {
    const anyPeer = this.#options.network?.discovery.candidates().some((peer) => peer.banned === undefined) ?? false;
    return this.#policy.upstreamMayHelp(anyPeer);
  }

  /** Looks four times a second whether idle upstream lanes should take something over. */
  #balance(): void {
    const slow = this.#queues.isEmpty ? this.#work.slowestAtPeers() : undefined;
    if (slow !== undefined && this.#upstreamMayHelp()) slow.handOver.abort();
    this.#queues.tellChange();
  }
}
