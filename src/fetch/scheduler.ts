import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { RateLimit, type DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { HeldNars } from '../serve/held-nars.ts';
import type { FileStore } from '../store/file-store.ts';
import type { PartialNar } from '../store/partial.ts';
import type { PartialSession } from '../store/session.ts';
import type { Network } from '../swarm/network.ts';
import type { Tell } from './events.ts';
import { reasonToGiveUp } from './giving-up.ts';
import { handOver } from './hand-over.ts';
import type { HurriedNars } from './hurried-nars.ts';
import type { NarJob } from './job.ts';
import { LanePolicy } from './lane-policy.ts';
import { LaneWork } from './lane-work.ts';
import { Lanes, UPSTREAM_SLOTS } from './lanes.ts';
import { MemberLane } from './member-lane.ts';
import { NarJudge } from './nar-judge.ts';
import { SourceChoice } from './source-choice.ts';
import { TakeOvers } from './take-overs.ts';
import { TaskFiles } from './task-files.ts';
import { TaskOutcomes } from './task-outcomes.ts';
import { TaskQueues, type TorrentOf } from './task-queues.ts';
import { inFetchOrder, newTask, summary, unavailable, type Task } from './task.ts';
import { UpstreamOrder } from './upstream-order.ts';
import { Whereabouts } from './whereabouts.ts';

/** Sources and target of the NARs. */
export interface SchedulerOptions {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  /** Empty: everything must come from peers. */
  readonly upstreams: readonly Upstream[];
  /** The order of these upstreams, which lasts longer than one scheduler. Default: a new one. */
  readonly order?: UpstreamOrder | undefined;
  readonly limit?: DirectionLimit | undefined;
  readonly tell: Tell;
  /** Without an upstream: time without progress after which the run gives up. Default 60,000. */
  readonly standstillMs?: number | undefined;
  /** As in a round (fetch-round.ts). */
  readonly placeOf?: ((job: NarJob) => number) | undefined;
  readonly hurried?: HurriedNars | undefined;
  /** Called with each NAR that begins to arrive. */
  readonly onBegun?: ((info: NarInfo, partial: PartialNar) => void) | undefined;
  /** Called with each NAR as soon as it is verified and in the store. */
  readonly onFetched: (job: NarJob, how: { readonly isOfMembers: boolean }) => void;
  /** Serves the NARs that are here to others. */
  readonly held?: HeldNars | undefined;
}

const LOOK_EVERY_MS = 250;

/**
 * Fetches NARs from members, other BitTorrent clients and upstreams at once. Members come first at any moment: a NAR
 * that a member has is requested from no other source, unless members turn out slower than the upstream. An upstream
 * takes NARs that no peer has. Members that want the same NARs share this work. The run ends no later than with the
 * upstream alone.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #policy: LanePolicy;
  readonly #where: Whereabouts;
  readonly #queues: TaskQueues;
  readonly #choice: SourceChoice;
  readonly #order: UpstreamOrder;
  readonly #tell: Tell;
  readonly #files: TaskFiles;
  readonly #work: LaneWork;
  readonly #takeOvers = new TakeOvers<Task>();
  readonly #outcomes: TaskOutcomes;
  readonly #stop = new AbortController();
  #signal = this.#stop.signal;
  #members: MemberLane | undefined;
  #hasNews = false;
  /** Resolves once the lanes work, or a run has ended before. */
  readonly #begun = Promise.withResolvers<void>();
  #hasEnded = false;
  #jobs = 0;
  #bytes = 0;

  constructor(options: SchedulerOptions) {
    const { network, http, upstreams, order = new UpstreamOrder(upstreams), limit = new RateLimit() } = options;
    this.#options = options;
    this.#order = order;
    this.#policy = new LanePolicy({
      hasUpstream: upstreams.length > 0,
      standstillMs: options.standstillMs,
      isHeldBack: () => limit.isUsedUp,
    });
    const policy = this.#policy;
    const tell: Tell = (event) => {
      if (event.type === 'nar-bytes') {
        policy.onBytes(event.source, event.bytes);
        if (event.group === 'clients' && !where.haveForeignersSent) this.#onForeignNews();
      }
      options.tell(event);
    };
    this.#tell = tell;
    const files = (this.#files = new TaskFiles({ ...options, tell }));
    const judge = new NarJudge({
      files,
      upstreams,
      order,
      hasPeers: network !== undefined,
      givesTorrents: network?.givesTorrents === true,
      onWrong: (task, origins) => this.#members?.doubt(task, origins) ?? false,
      tell,
    });
    const where = (this.#where = new Whereabouts(network, () => this.#members, policy));
    const onNews = (): void => this.#onForeignNews();
    this.#work = new LaneWork({ network, http, upstreams, order, limit, policy, files, judge, where, onNews, tell });
    const queues = (this.#queues = new TaskQueues(
      (task) => where.isAtMembers(task),
      (task) => options.hurried?.turnOf(task.files) ?? Infinity,
    ));
    const takeOvers = this.#takeOvers;
    this.#choice = new SourceChoice({ queues, where, policy, takeOvers });
    this.#outcomes = new TaskOutcomes({
      queues,
      takeOvers,
      files,
      judge,
      members: () => this.#members,
      onFetched: options.onFetched,
      onStoreFailure: (error) => this.#stop.abort(error),
      tell,
    });
  }

  /**
   * Fetches every NAR into the store. If something fails, all others are still fetched.
   *
   * @param options.mayGrow true if {@link add} is called with further ones, until {@link noMore}. Default: false
   * @throws NAR_UNAVAILABLE with an AggregateError of each NAR's failure; STORE_FULL, STORE_UNWRITABLE at once; the
   *   signal's reason
   */
  async run(jobs: readonly NarJob[], signal: AbortSignal, { mayGrow = false } = {}): Promise<void> {
    if (mayGrow) this.#queues.expectMore();
    try {
      await this.#run(jobs, signal);
    } finally {
      this.#hasEnded = true;
      this.#begun.resolve();
    }
  }

  async #run(jobs: readonly NarJob[], signal: AbortSignal): Promise<void> {
    const { network, upstreams } = this.#options;
    if (jobs[0] !== undefined && network === undefined && upstreams.length === 0) {
      throw unavailable(jobs[0], 'there is neither an upstream nor a peer to ask');
    }
    await this.#files.begin();
    const linked = AbortSignal.any([signal, this.#stop.signal]);
    this.#signal = linked;
    this.#members = network && this.#meet(network, linked);
    using _watch = this.#options.hurried?.watch((file) => this.#hurry(file));
    await this.#begin(this.#inOrder(jobs, this.#options.placeOf).map(newTask), linked);
    const timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    const abort = (): void => this.#queues.tellChange();
    linked.addEventListener('abort', abort);
    const onPeer = (): void => this.#queues.retryForeigners();
    network?.discovery.on('peer', onPeer);
    this.#look();
    const lanes = new Lanes({
      queues: this.#queues,
      choice: this.#choice,
      work: this.#work,
      outcomes: this.#outcomes,
      // Nobody else could take a share of what upstreams are asked for.
      isAlone: () => (network?.members.open.size ?? 0) === 0,
      signal: linked,
    });
    this.#begun.resolve();
    try {
      await Promise.all([
        network && lanes.byForeigners(),
        upstreams.length > 0 && lanes.byUpstreams(),
        this.#untilDone(linked),
      ]);
    } finally {
      clearInterval(timer);
      network?.discovery.off('peer', onPeer);
      await this.#members?.[Symbol.asyncDispose]();
      await this.#outcomes.settled();
      await this.#files.close();
    }
    linked.throwIfAborted();
    const { failures } = this.#outcomes;
    if (failures.length > 0) throw summary(failures, this.#jobs);
  }

  /**
   * Fetches more NARs, beside those of a {@link run} that may grow.
   *
   * @param whole given with the last ones: orders all that wait, as if they had been given at once. Default: these come
   *   behind the others
   */
  async add(jobs: readonly NarJob[], whole?: Pick<SchedulerOptions, 'placeOf'>): Promise<void> {
    await this.#begun.promise;
    if (this.#hasEnded) return;
    this.#policy.onMore();
    await this.#begin(this.#inOrder(jobs, whole?.placeOf).map(newTask), this.#signal, whole);
  }

  /** Lets a {@link run} that may grow end once everything is fetched. */
  noMore(): void {
    this.#queues.settle();
  }

  /** Lets upstreams begin again with what they are sending, since better ones have come. Keeps what has arrived. */
  chooseAgain(): void {
    for (const task of this.#work.atUpstreams) task.handOver.abort();
  }

  /** Returns true once the NAR of a job is in the store. */
  hasFetched(job: NarJob): boolean {
    return this.#outcomes.hasFetched(job);
  }

  /** Returns why the NAR of a job could not be fetched, if it was tried. */
  failureOf(job: NarJob): unknown {
    return this.#outcomes.failureOf(job);
  }

  /** Gives torrents to NARs without one that are not begun, because a hash map was found late. */
  async attach(torrentOf: TorrentOf): Promise<void> {
    const taken = await this.#queues.takeWithTorrents(torrentOf);
    await Promise.all(taken.map(async ({ task }) => this.#members?.pause(task)));
    for (const { task, torrent } of taken) {
      if (task.partial === undefined) task.job.torrent = torrent; // otherwise members have begun it
      task.isShared = true;
      this.#queues.queue(task);
    }
    const isComplete = ({ partial }: Task): boolean => partial?.missing().length === 0;
    const tasks = taken.map(({ task }) => task);
    this.#members?.add(tasks.filter((task) => !isComplete(task)));
    for (const task of tasks.filter(isComplete)) this.#outcomes.settle(task, this.#signal); // completed meanwhile
  }

  /** Returns the narinfo with the fetched file, if that differs from the named one. */
  asFetched(info: NarInfo): NarInfo {
    return this.#files.asFetched(info);
  }

  /** Returns the place of a job's NAR once it is verified. */
  pathOf(job: NarJob): string {
    return this.#files.pathOf(job);
  }

  #meet(network: Network, signal: AbortSignal): MemberLane {
    return new MemberLane({
      members: network.members,
      line: network.swarm.peers.line,
      hashThread: this.#options.session.hashThread,
      leavesUnchecked: !network.givesTorrents,
      files: this.#files,
      atUpstreams: this.#work.atUpstreams,
      policy: this.#policy,
      held: this.#options.held,
      hurried: this.#options.hurried,
      tell: this.#tell,
      onComplete: (task) => this.#outcomes.settle(task, signal),
      onFailure: (task, error) => {
        if (this.#queues.take(task)) void this.#outcomes.fail(task, error, signal);
      },
      onNews: () => (this.#hasNews = true),
    });
  }

  #inOrder(jobs: readonly NarJob[], placeOf: SchedulerOptions['placeOf']): NarJob[] {
    const { network, upstreams } = this.#options;
    const atOnce = upstreams.length === 0 ? 1 : UPSTREAM_SLOTS;
    // Several machines that fetch in the same order would each ask the upstream for the same NARs.
    return inFetchOrder(jobs, (network?.members.open.size ?? 0) > 1 ? undefined : placeOf, atOnce);
  }

  /** Queues new tasks. Opens those that an earlier run began, and settles those that it completed. */
  async #begin(tasks: readonly Task[], signal: AbortSignal, whole?: Pick<SchedulerOptions, 'placeOf'>): Promise<void> {
    this.#jobs += tasks.length;
    for (const { job } of tasks) this.#bytes += job.sizeBytes;
    this.#options.session.hashThread.startFor(this.#bytes);
    const isNew = new Set(tasks);
    for (const task of tasks) {
      task.isShared = this.#members !== undefined && (await this.#isShared(task));
      const isBegun = this.#files.hasTraces(task);
      const partial = isBegun ? await this.#files.open(task) : undefined; // before a lane may do so
      this.#queues.add(task);
      if (isBegun && partial === undefined) {
        this.#queues.take(task);
        this.#outcomes.fetched(task);
      } else if (partial?.missing().length === 0) this.#outcomes.settle(task, signal);
    }
    if (whole !== undefined) {
      const waiting = new Map(Array.from(this.#queues.waiting(), (task) => [task.job, task]));
      const jobs = this.#inOrder([...waiting.keys()], whole.placeOf);
      this.#queues.arrange(jobs.flatMap((job) => waiting.get(job) ?? []));
    }
    this.#members?.add([...this.#queues.waiting()].filter((task) => isNew.has(task)));
    this.#queues.sort();
  }

  /** Returns true if others may hear that we want a NAR: a hash map names it, or a share-key has signed it. */
  async #isShared({ job: { torrent, info } }: Task): Promise<boolean> {
    return torrent !== undefined || (await this.#options.held?.isShared(info)) === true;
  }

  /** Puts a waiting NAR before the others, since somebody wants it now. */
  #hurry(file: FileHash): void {
    for (const task of this.#queues.waiting()) {
      if (!task.files.has(file)) continue;
      this.#queues.hurry(task);
      this.#members?.hurry(task);
      return;
    }
  }

  async #untilDone(signal: AbortSignal): Promise<void> {
    while (!this.#queues.isDone && !signal.aborted) await this.#queues.changed();
  }

  /** Checks four times a second which source should take over which task. */
  #look(): void {
    const queues = this.#queues;
    this.#where.look();
    this.#choice.look();
    const isAtWork = this.#work.atUpstreams.size > 0;
    this.#policy.onLook(isAtWork ? 'work' : this.#choice.waitsForOthers ? 'wait' : 'rest');
    if (this.#hasNews) queues.sort();
    this.#hasNews = false;
    for (const task of queues.waiting()) this.#giveUp(task);
    const parts = { work: this.#work, where: this.#where, policy: this.#policy, takeOvers: this.#takeOvers };
    handOver({ queues, ...parts });
    queues.tellChange();
  }

  /** Wakes the lanes, since a client outside our groups has begun to send, or turned out to be silent. */
  #onForeignNews(): void {
    this.#where.lookAtForeigners();
    this.#queues.tellChange();
  }

  /** Ends a task whose NAR no source has. */
  #giveUp(task: Task): void {
    const isAlone = this.#options.upstreams.length === 0;
    const error = reasonToGiveUp(task, { isAlone, where: this.#where, policy: this.#policy, order: this.#order });
    if (error !== undefined && this.#queues.take(task)) void this.#outcomes.fail(task, error, this.#stop.signal);
  }
}
