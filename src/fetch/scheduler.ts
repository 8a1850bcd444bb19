import { isNarswarmError } from '../errors.ts';
import type { Claim } from '../exchange/their-fetches.ts';
import type { FileHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { hashInThread } from '../bytes/hash-thread.ts';
import { RateLimit, type DirectionLimit } from '../bytes/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import type { HeldNars } from '../serve/held-nars.ts';
import type { FileStore } from '../store/file-store.ts';
import type { PartialSession } from '../store/session.ts';
import type { Network } from '../swarm/network.ts';
import type { Tell } from './events.ts';
import type { NarJob } from './job.ts';
import { LanePolicy } from './lane-policy.ts';
import { LaneWork, unavailableAtPeers } from './lane-work.ts';
import { MemberLane } from './member-lane.ts';
import { NarJudge, type Verdict } from './nar-judge.ts';
import { areOthersSooner, TakeOvers } from './take-overs.ts';
import { TaskFiles } from './task-files.ts';
import { TaskQueues, type TorrentOf } from './task-queues.ts';
import {
  HAND_OVER_BYTES,
  inFetchOrder,
  leftOf,
  mostLeft,
  newTask,
  reasonsOf,
  summary,
  unavailable,
  type Task,
} from './task.ts';
import { UpstreamOrder } from './upstream-order.ts';

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
  /** Called with each NAR as soon as it is verified and in the store. */
  readonly onFetched: (job: NarJob, how: { readonly isOfMembers: boolean }) => void;
  /** Serves the NARs that are here to others. */
  readonly held?: HeldNars | undefined;
}

/**
 * Limit on NARs that are requested from clients outside our groups at the same time. Each torrent needs its own
 * connection, so many small ones are needed.
 */
const FOREIGN_SLOTS = 64;
/** Limit on NARs that are requested from upstreams at the same time. */
const UPSTREAM_SLOTS = 8;
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
  readonly #queues: TaskQueues;
  readonly #order: UpstreamOrder;
  readonly #tell: Tell;
  readonly #files: TaskFiles;
  readonly #judge: NarJudge;
  readonly #work: LaneWork;
  readonly #takeOvers = new TakeOvers<Task>();
  /** Tasks by the store path of their job, which stays the same if its file changes. */
  readonly #failures = new Map<StorePath, unknown>();
  readonly #fetched = new Set<StorePath>();
  /** Complete NARs that are being settled. The run does not end before them. */
  readonly #settling = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #signal = this.#stop.signal;
  #members: MemberLane | undefined;
  #areForeignersThere = false;
  /** As of the last look; undefined if not asked since. */
  #othersAreSooner: boolean | undefined;
  #hasNews = false;

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
      if (event.type === 'nar-bytes') policy.onBytes(event.source, event.bytes);
      options.tell(event);
    };
    this.#tell = tell;
    const files = (this.#files = new TaskFiles(options.store, options.session, tell));
    const judge = (this.#judge = new NarJudge({
      files,
      upstreams,
      order,
      hasPeers: network !== undefined,
      onWrong: (task, origins) => this.#members?.doubt(task, origins),
      tell,
    }));
    const mayPeersHave = (task: Task): boolean => this.#mayPeersHave(task);
    this.#work = new LaneWork({ network, http, upstreams, order, limit, policy, files, judge, mayPeersHave, tell });
    this.#queues = new TaskQueues({
      isAtMembers: (task) => this.#members?.isAtHand(task) ?? false,
      isLeftToOther: (task) => {
        const other = this.#members?.otherFor(task);
        return other !== undefined && (other.claim !== undefined || this.#policy.isSharing);
      },
      mayTakeOver: () => this.#takeOvers.mayTry(this.#policy.isSharing || this.#areOthersSooner),
      areForeignersThere: () => this.#areForeignersThere,
      isTooEarly: () => this.#isTooEarly,
      upstreamMayHelp: () => this.#policy.upstreamMayHelp(this.#areForeignersThere || (this.#members?.size ?? 0) > 0),
    });
  }

  /**
   * Fetches every NAR into the store. If something fails, all others are still fetched.
   *
   * @throws NAR_UNAVAILABLE with an AggregateError of each NAR's failure; STORE_FULL, STORE_UNWRITABLE at once; the
   *   signal's reason
   */
  async run(jobs: readonly NarJob[], signal: AbortSignal): Promise<void> {
    const { network, upstreams } = this.#options;
    if (jobs[0] !== undefined && network === undefined && upstreams.length === 0) {
      throw unavailable(jobs[0], 'there is neither an upstream nor a peer to ask');
    }
    await this.#files.begin();
    hashInThread(jobs.reduce((sum, job) => sum + job.sizeBytes, 0));
    const linked = AbortSignal.any([signal, this.#stop.signal]);
    this.#signal = linked;
    this.#members = network && this.#meet(network, linked);
    await this.#begin(inFetchOrder(jobs).map(newTask), linked);
    const timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    const abort = (): void => this.#queues.tellChange();
    linked.addEventListener('abort', abort);
    const onPeer = (): void => this.#queues.retryForeigners();
    network?.discovery.on('peer', onPeer);
    this.#look();
    const lanes = [
      ...Array.from({ length: network === undefined ? 0 : FOREIGN_SLOTS }, () =>
        this.#lane(
          () => this.#queues.nextForForeigners(),
          (task) => this.#work.byForeigners(task, linked),
          linked,
        ),
      ),
      ...Array.from({ length: upstreams.length === 0 ? 0 : UPSTREAM_SLOTS }, () =>
        this.#lane(
          () => this.#nextForUpstream(),
          (task) => this.#work.byUpstreams(task, linked),
          linked,
        ),
      ),
    ];
    try {
      await Promise.all([...lanes, this.#untilDone(linked)]);
    } finally {
      clearInterval(timer);
      network?.discovery.off('peer', onPeer);
      await this.#members?.[Symbol.asyncDispose]();
      await Promise.all(this.#settling);
      await this.#files.close();
    }
    linked.throwIfAborted();
    if (this.#failures.size > 0) throw summary([...this.#failures.values()], jobs.length);
  }

  /** Returns true once the NAR of a job is in the store. */
  hasFetched(job: NarJob): boolean {
    return this.#fetched.has(job.info.storePath);
  }

  /** Returns why the NAR of a job could not be fetched, if it was tried. */
  failureOf(job: NarJob): unknown {
    return this.#failures.get(job.info.storePath);
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
    for (const task of tasks.filter(isComplete)) this.#settle(task, this.#signal); // completed meanwhile
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
      leavesUnchecked: !network.givesTorrents,
      files: this.#files,
      atUpstreams: this.#work.atUpstreams,
      policy: this.#policy,
      held: this.#options.held,
      tell: this.#tell,
      onComplete: (task) => this.#settle(task, signal),
      onFailure: (task, error) => {
        if (this.#queues.take(task)) void this.#fail(task, error, signal);
      },
      onNews: () => (this.#hasNews = true),
    });
  }

  /** Queues all tasks. Opens those that an earlier run began, and settles those that it completed. */
  async #begin(tasks: readonly Task[], signal: AbortSignal): Promise<void> {
    for (const task of tasks) {
      task.isShared = this.#members !== undefined && (await this.#isShared(task));
      this.#queues.add(task);
      if (!this.#files.hasTraces(task)) continue;
      const partial = await this.#files.open(task);
      if (partial === undefined) {
        this.#queues.take(task);
        this.#tellFetched(task);
      } else if (partial.missing().length === 0) this.#settle(task, signal);
    }
    this.#members?.add([...this.#queues.waiting()]);
    this.#queues.sort();
  }

  /** Returns true if others may hear that we want a NAR: a hash map names it, or a share-key has signed it. */
  async #isShared({ job: { torrent, info } }: Task): Promise<boolean> {
    return torrent !== undefined || (await this.#options.held?.isShared(info)) === true;
  }

  /** Runs tasks one after another until all are settled. */
  async #lane(
    next: () => Task | undefined,
    work: (task: Task) => Promise<Verdict>,
    signal: AbortSignal,
  ): Promise<void> {
    while (!this.#queues.isDone && !signal.aborted) {
      const task = next();
      if (task === undefined) {
        await this.#queues.changed();
        continue;
      }
      const file = task.job.fileHash;
      await this.#members?.pause(task);
      await this.#do(task, () => work(task), signal, file);
    }
  }

  /** Settles a task that members have completed. */
  #settle(task: Task, signal: AbortSignal): void {
    if (!this.#queues.take(task)) return; // another lane has it
    const settling = this.#do(task, () => this.#judge.settle(task, signal), signal, task.job.fileHash).finally(() =>
      this.#settling.delete(settling),
    );
    this.#settling.add(settling);
  }

  /** @param file the name of the task's file for members */
  async #do(task: Task, work: () => Promise<Verdict>, signal: AbortSignal, file: FileHash): Promise<void> {
    try {
      if ((await work()) === 'fetched' || (await this.#isComplete(task, signal))) {
        this.#tellFetched(task);
        return;
      }
      this.#takeOvers.end(task, 'left');
      if (task.job.fileHash !== file) this.#members?.drop({ ...task, files: new Set([file]) }, { isRight: false });
      this.#members?.add([task]);
      this.#queues.queue(task);
    } catch (error) {
      await this.#fail(task, error, signal);
    }
  }

  /** Returns true if the last bytes came while the task was handed over. Then no source is asked, and it is settled. */
  async #isComplete(task: Task, signal: AbortSignal): Promise<boolean> {
    await task.partial?.drain();
    return task.partial?.missing().length === 0 && (await this.#judge.settle(task, signal)) === 'fetched';
  }

  async #fail(task: Task, error: unknown, signal: AbortSignal): Promise<void> {
    this.#takeOvers.end(task, 'left');
    if (!signal.aborted) this.#members?.drop(task, { isRight: false });
    await this.#files.forget(task);
    if (signal.aborted) return;
    if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) {
      this.#stop.abort(error);
      return;
    }
    this.#failures.set(task.job.info.storePath, error);
    this.#queues.settle();
  }

  #tellFetched(task: Task): void {
    const { job } = task;
    this.#fetched.add(job.info.storePath);
    this.#takeOvers.end(task, 'fetched');
    this.#tell({ type: 'nar-fetched', sizeBytes: job.sizeBytes });
    this.#options.onFetched(job, { isOfMembers: task.isOfMembers });
    this.#members?.drop(task, { isRight: true });
    this.#queues.settle();
  }

  async #untilDone(signal: AbortSignal): Promise<void> {
    while (!this.#queues.isDone && !signal.aborted) await this.#queues.changed();
  }

  /** True while a member may be about to announce a file. */
  get #isTooEarly(): boolean {
    if (!this.#policy.isEarly || this.#members === undefined) return false;
    return this.#members.isAsking || (this.#options.network?.members.isMeeting ?? false);
  }

  #mayPeersHave(task: Task): boolean {
    if (this.#members?.isAtHand(task) === true) return true;
    return this.#areForeignersThere && task.job.torrent !== undefined;
  }

  /** Checks four times a second which source should take over which task. */
  #look(): void {
    const { network } = this.#options;
    this.#areForeignersThere = network?.foreigners().some(({ banned }) => banned === undefined) ?? false;
    this.#members?.look();
    const isAtWork = this.#work.atUpstreams.size > 0;
    this.#policy.onLook(isAtWork ? 'work' : this.#queues.waitsForOthers ? 'wait' : 'rest');
    this.#othersAreSooner = undefined;
    if (this.#hasNews) this.#queues.sort();
    this.#hasNews = false;
    for (const task of this.#queues.waiting()) this.#giveUp(task);
    for (const task of [...this.#work.atUpstreams, ...this.#work.atForeigners]) this.#handToMembers(task);
    for (const task of this.#work.atUpstreams) this.#leaveToOther(task);
    const slow = this.#queues.isEmpty ? mostLeft(this.#work.atForeigners) : undefined;
    if (slow !== undefined && this.#policy.upstreamMayHelp(true)) slow.handOver.abort();
    this.#queues.tellChange();
  }

  /** Ends a task whose NAR no source has. */
  #giveUp(task: Task): void {
    const { upstreamFailure } = task;
    const isAlone = this.#options.upstreams.length === 0;
    if (!isAlone && upstreamFailure === undefined && !this.#isOutOfReach) return;
    const mayCome =
      isAlone || this.#isTooEarly || this.#areMembersLeft || (this.#mayPeersHave(task) && !task.peersTried);
    if ((mayCome || this.#members?.isAtHand(task) === true) && !this.#policy.standsStill) return;
    if (!this.#queues.take(task)) return;
    const why = upstreamFailure === undefined ? 'no cache answers any longer' : reasonsOf(upstreamFailure);
    const error = isAlone ? unavailableAtPeers(task) : unavailable(task.job, why, upstreamFailure);
    void this.#fail(task, error, this.#stop.signal);
  }

  /** True if no upstream has answered for so long that NARs are given up that were never requested from one. */
  get #isOutOfReach(): boolean {
    return this.#order.areUnreachable && this.#policy.isOutageLong;
  }

  /** True if only members are left. They may give a NAR later: a daemon checks contents before it gives them. */
  get #areMembersLeft(): boolean {
    return this.#order.areUnreachable && (this.#members?.size ?? 0) > 0;
  }

  #nextForUpstream(): Task | undefined {
    const task = this.#queues.nextForUpstream();
    if (task !== undefined && this.#members?.otherFor(task)?.claim !== undefined) this.#takeOvers.begin(task);
    return task;
  }

  /** Asked only while nothing else is left to do, since it looks at all waiting tasks. */
  get #areOthersSooner(): boolean {
    return (this.#othersAreSooner ??= areOthersSooner(this.#fetchedByOthers(), this.#policy.upstreamBytesPerSec));
  }

  *#fetchedByOthers(): Generator<{ sizeBytes: number; leftBytes: number; claim: Claim }> {
    for (const task of this.#queues.waiting()) {
      const claim = this.#members?.otherFor(task)?.claim;
      if (claim !== undefined) yield { sizeBytes: task.job.sizeBytes, leftBytes: leftOf(task), claim };
    }
  }

  /** Ends a task at an upstream if another process is also fetching it and has more of it. */
  #leaveToOther(task: Task): void {
    if (task.isHelped || task.handOver.signal.aborted || leftOf(task) <= HAND_OVER_BYTES) return;
    const claim = this.#members?.otherFor(task)?.claim;
    if (claim !== undefined && !this.#takeOvers.isWorthIt(task, claim)) task.handOver.abort();
  }

  /** Moves a task to a member that has it, if that is faster than its present source, or if an upstream sends nothing. */
  #handToMembers(task: Task): void {
    if (task.handOver.signal.aborted || this.#members?.hasHolder(task) !== true) return;
    if (!task.isHelped && leftOf(task) > HAND_OVER_BYTES && this.#policy.areMembersFaster) task.handOver.abort();
    else if (!task.wasLeft && this.#work.atUpstreams.has(task) && this.#policy.areUpstreamsSilent) {
      task.wasLeft = true;
      if (task.isHelped) this.#policy.onFailedTrial();
      task.isHelped = false;
      task.handOver.abort();
    }
  }
}
