import type { FileHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { RateLimit } from '../../bytes/rate-limit.ts';
import type { Network } from '../../swarm/network.ts';
import type { Tell } from '../events.ts';
import { nobodyToAsk, reasonToGiveUp } from './giving-up.ts';
import { handOver } from './hand-over.ts';
import type { NarJob } from '../plan/job.ts';
import { LanePolicy } from './lane-policy.ts';
import { LaneWork } from './lane-work.ts';
import { Lanes } from './lanes.ts';
import { MemberLane } from './member-lane.ts';
import { NarJudge } from './nar-judge.ts';
import type { SchedulerOptions } from './scheduler-options.ts';
import { SourceChoice } from './source-choice.ts';
import { TakeOvers } from './take-overs.ts';
import { TaskFiles } from './task-files.ts';
import { TaskIntake, type TorrentOf } from './task-intake.ts';
import { TaskOutcomes } from './task-outcomes.ts';
import { TaskQueues } from './task-queues.ts';
import { summary, type Task } from './task.ts';
import { changeFiles } from './other-files.ts';
import { UpstreamOrder } from './upstream-order.ts';
import { Whereabouts } from './whereabouts.ts';

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
  readonly #judge: NarJudge;
  readonly #work: LaneWork;
  readonly #takeOvers = new TakeOvers<Task>();
  readonly #outcomes: TaskOutcomes;
  readonly #intake: TaskIntake;
  readonly #stop = new AbortController();
  #signal = this.#stop.signal;
  #members: MemberLane | undefined;
  #hasNews = false;
  /** True if the lanes waited for what members have, as of the last look. */
  #wasTooEarly = false;
  #isHeldBack = false;
  /** Resolves once the lanes work, or a run has ended before. */
  readonly #begun = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(options: SchedulerOptions) {
    const { network, http, upstreams, order = new UpstreamOrder(upstreams), limit = new RateLimit() } = options;
    this.#options = options;
    this.#order = order;
    this.#policy = new LanePolicy({
      hasUpstream: upstreams.length > 0,
      standstillMs: options.standstillMs,
      isHeldBack: () => limit.isUsedUp || options.isHeldBack?.() === true,
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
    const judge = (this.#judge = new NarJudge({
      files,
      upstreams,
      order,
      hasPeers: network !== undefined,
      givesTorrents: network?.givesTorrents === true,
      onWrong: (task, origins) => this.#members?.doubt(task, origins) ?? false,
      tell,
    }));
    const where = (this.#where = new Whereabouts(network, () => this.#members, policy));
    const onNews = (): void => this.#onForeignNews();
    this.#work = new LaneWork({ network, http, upstreams, order, limit, policy, files, judge, where, onNews, tell });
    const queues = (this.#queues = new TaskQueues(
      (task) => where.isAtMembers(task),
      (task) => options.hurried?.turnOf(task.files) ?? Infinity,
    ));
    const takeOvers = this.#takeOvers;
    this.#choice = new SourceChoice({ queues, where, policy, takeOvers });
    const members = (): MemberLane | undefined => this.#members;
    const outcomes = (this.#outcomes = new TaskOutcomes({
      queues,
      takeOvers,
      files,
      judge,
      members,
      onFetched: (job, how) => {
        const { torrent, info, fileHash, sizeBytes } = job;
        options.held?.add({ fileHash, sizeBytes, torrent, path: files.pathOf(job), info, ...how });
        options.onFetched(job, how);
      },
      onStoreFailure: (error) => this.#stop.abort(error),
      tell,
    }));
    const { session, held } = options;
    this.#intake = new TaskIntake({ session, network, upstreams, held, queues, files, outcomes, members });
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
      throw nobodyToAsk(jobs[0]);
    }
    await this.#files.begin();
    const linked = AbortSignal.any([signal, this.#stop.signal]);
    this.#signal = linked;
    this.#members = network && this.#meet(network, linked);
    using _watch = this.#options.hurried?.watch((file) => this.#hurry(file));
    await this.#intake.take(jobs, linked, { placeOf: this.#options.placeOf });
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
      isAlone: () => !this.#where.areMembersThere,
      isOrdered: () => this.#intake.isOrdered,
      yields: this.#options.limit?.yields === true,
      isHeldBack: () => this.#options.isHeldBack?.() === true,
      bytesPerSec: () => this.#policy.upstreamBytesPerSec,
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
    if (failures.length > 0) throw summary(failures, this.#intake.jobs);
  }

  /**
   * Fetches more NARs, beside those of a {@link run} that may grow. All sources that are known by then may be used.
   *
   * @param whole given with the last ones: orders all that wait, as if they had been given at once. Default: these come
   *   behind the others
   */
  async add(jobs: readonly NarJob[], whole?: Pick<SchedulerOptions, 'placeOf'>): Promise<void> {
    await this.#begun.promise;
    if (this.#hasEnded) return;
    this.#policy.onMore();
    await this.#intake.take(jobs, this.#signal, { placeOf: whole?.placeOf, arrangesAll: whole !== undefined });
  }

  /** Lets a {@link run} that may grow end once everything is fetched. */
  noMore(): void {
    this.#queues.noMore();
  }

  /**
   * Queues the NARs that upstreams are sending again, since better upstreams have come. Keeps the bytes that have
   * arrived.
   */
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

  /** Gives torrents to NARs without one, because a hash map was found late. Those that are arriving get further sources. */
  async attach(torrentOf: TorrentOf): Promise<void> {
    await this.#intake.attach(torrentOf, this.#signal);
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
      isTrusted: (task, origin) => this.#judge.isTrusted(task, origin),
      held: this.#options.held,
      mayBeUncompressed: this.#options.mayBeUncompressed ?? true,
      hurried: this.#options.hurried,
      tell: this.#tell,
      onComplete: (task) => this.#outcomes.settle(task, signal),
      onFailure: (task, error) => {
        if (this.#queues.take(task)) void this.#outcomes.fail(task, error, signal);
      },
      onNews: () => (this.#hasNews = true),
      onKnown: () => {
        if (this.#wasTooEarly && !this.#where.isTooEarly) this.#look();
      },
    });
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
    this.#tellHeldBack();
    this.#where.look();
    this.#wasTooEarly = this.#where.isTooEarly;
    this.#choice.look();
    const isAtWork = this.#work.atUpstreams.size > 0;
    this.#policy.onLook(isAtWork ? 'work' : this.#choice.waitsForOthers ? 'wait' : 'rest');
    if (this.#hasNews) queues.sort();
    this.#hasNews = false;
    for (const task of queues.waiting()) this.#giveUp(task);
    const parts = { work: this.#work, where: this.#where, policy: this.#policy, takeOvers: this.#takeOvers };
    changeFiles({ queues, work: this.#work, where: this.#where, outcomes: this.#outcomes, signal: this.#signal });
    handOver({ queues, ...parts });
    queues.tellChange();
  }

  #tellHeldBack(): void {
    const isHeldBack = this.#options.isHeldBack?.() === true;
    if (isHeldBack && !this.#isHeldBack) this.#tell({ type: 'held-back' });
    this.#isHeldBack = isHeldBack;
  }

  /** Wakes the lanes, since a client outside our groups has begun to send, or turned out to be silent. */
  #onForeignNews(): void {
    this.#where.lookAtForeigners();
    this.#queues.tellChange();
  }

  /** Ends a task whose NAR no source has. */
  #giveUp(task: Task): void {
    const isAlone = this.#options.upstreams.length === 0;
    const { waitsForPeers = false } = this.#options;
    const facts = { where: this.#where, policy: this.#policy, order: this.#order };
    const error = reasonToGiveUp(task, { isAlone, waitsForPeers, ...facts });
    if (error !== undefined && this.#queues.take(task)) void this.#outcomes.fail(task, error, this.#stop.signal);
  }
}
