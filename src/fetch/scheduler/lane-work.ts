import { isNarswarmError } from '../../errors.ts';
import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import { failuresOf } from '../../failure.ts';
import type { HttpDownloads } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { Network } from '../../swarm/network.ts';
import type { Tell } from '../events.ts';
import { isHopeless, unavailableAtPeers } from './giving-up.ts';
import type { NarJob } from '../plan/job.ts';
import type { LanePolicy } from './lane-policy.ts';
import type { NarJudge, Verdict } from './nar-judge.ts';
import { cacheThatNames, lacksName } from '../download/name-in-cache.ts';
import { fetchFromPeers } from './peer-lane.ts';
import type { TaskFiles } from './task-files.ts';
import { reasonsOf, unavailable, type Task } from './task.ts';
import { uncompressedOf } from './uncompressed-nars.ts';
import { fetchFromUpstreams, OtherFile } from './upstream-lane.ts';
import type { UpstreamOrder } from './upstream-order.ts';
import type { Whereabouts } from './whereabouts.ts';

export interface LaneWorkOptions {
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpDownloads;
  /** Empty: everything must come from peers. */
  readonly upstreams: readonly Upstream[];
  readonly order: UpstreamOrder;
  readonly limit: DirectionLimit;
  readonly policy: LanePolicy;
  readonly files: TaskFiles;
  readonly judge: NarJudge;
  readonly where: Pick<Whereabouts, 'mayPeersHave'>;
  /** Called when clients outside our groups turn out to be silent. */
  readonly onNews: () => void;
  readonly tell: Tell;
}

/** The work of a lane on one task: lets clients outside our groups or upstreams fill its partial file. */
export class LaneWork {
  readonly #options: LaneWorkOptions;
  readonly #atForeigners = new Set<Task>();
  readonly #atUpstreams = new Set<Task>();

  constructor(options: LaneWorkOptions) {
    this.#options = options;
  }

  /** Tasks that clients outside our groups are sending. */
  get atForeigners(): ReadonlySet<Task> {
    return this.#atForeigners;
  }

  /** Tasks that upstreams are sending. */
  get atUpstreams(): ReadonlySet<Task> {
    return this.#atUpstreams;
  }

  /**
   * Fetches the missing part of a NAR from clients outside our groups.
   *
   * @throws NAR_UNAVAILABLE if there is no more hope; HASH_MISMATCH; storage failures; the signal's reason
   */
  async byForeigners(task: Task, signal: AbortSignal): Promise<Verdict> {
    const { job } = task;
    const { network, upstreams, policy, files, judge, onNews, tell } = this.#options;
    if (network === undefined || job.torrent === undefined) throw unavailable(job, 'no hash map names a torrent of it');
    const partial = await files.open(task);
    if (partial === undefined) return 'fetched';
    task.isOfMembers = false;
    this.#atForeigners.add(task);
    try {
      const outcome = await fetchFromPeers({ ...job, torrent: job.torrent }, partial, {
        network,
        tell,
        patience: () => policy.patience(task.upstreamFailure !== undefined),
        onVerified: () => policy.onVerified(),
        onLie: () => policy.onLie(),
        onSilent: onNews,
        onWaited: () => {
          policy.onWaited();
          onNews();
        },
        handOver: task.handOver.signal,
        signal,
      });
      // If there is no other source, a peer that lacked the NAR may have it by now.
      task.peersTried = upstreams.length > 0 && task.upstreamFailure === undefined;
      if (outcome === 'given up' && partial.heldBytes === 0) await files.forget(task); // frees its buffer
      if (outcome === 'complete') return await judge.settle(task, signal);
      if (upstreams.length === 0 && policy.standsStill) throw unavailableAtPeers(task);
      if (isHopeless(task, partial.heldBytes))
        throw unavailable(job, reasonsOf(task.upstreamFailure), task.upstreamFailure);
      return 'again';
    } finally {
      this.#atForeigners.delete(task);
    }
  }

  /** Fetches the missing part of a NAR from upstreams. @throws as {@link byForeigners} */
  async byUpstreams(task: Task, signal: AbortSignal): Promise<Verdict> {
    const { network, http, order, limit, policy, files, judge, where, tell } = this.#options;
    if (task.named !== undefined) return this.asNamed(task);
    const partial = await files.open(task);
    if (partial === undefined) return 'fetched';
    task.isOfMembers = false;
    if (this.#atUpstreams.size === 0) policy.onUpstreamAsked();
    this.#atUpstreams.add(task);
    task.atUpstreamsMs = performance.now();
    if (task.isShared && lacksName(task.job)) void this.#askForName(task.job, signal);
    try {
      await fetchFromUpstreams(task.job, partial, {
        upstreams: upstreamsFor(task, order),
        order,
        http,
        limit,
        tried: task.files,
        isLineSilent: () => policy.isLineSilent,
        mayRace: task.lies.size === 0 && !partial.isDoubted,
        peersMayHelp: task.upstreamFailure === undefined && where.mayPeersHave(task),
        tell,
        signal: AbortSignal.any([signal, task.handOver.signal]),
      });
    } catch (error) {
      if (task.handOver.signal.aborted && !signal.aborted) return 'again';
      if (signal.aborted || isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
      if (error instanceof OtherFile) {
        await files.replace(task, error.own);
        return 'again';
      }
      if (network === undefined) throw unavailable(task.job, reasonsOf(error), error);
      if (task.upstreamFailure === undefined)
        tell({ type: 'warning', warning: { kind: 'peers-again', failures: failuresOf(error) } });
      policy.onFailedTrial();
      task.upstreamFailure = error;
      task.peersTried = false;
      return 'again';
    } finally {
      this.#atUpstreams.delete(task);
    }
    return await judge.settle(task, signal);
  }

  /** Continues a task with the uncompressed NAR, which a neighbour has. */
  async asUncompressed(task: Task): Promise<Verdict> {
    const uncompressed = uncompressedOf(task);
    if (uncompressed !== undefined) await this.#options.files.becomeUncompressed(task, uncompressed);
    return 'again';
  }

  /** Continues a task with the file that its narinfo named. */
  async asNamed(task: Task): Promise<Verdict> {
    if (task.named !== undefined) await this.#options.files.becomeNamed(task, task.named);
    return 'again';
  }

  /** Asks the caches for the name of a file that is on its way, so that neighbours get its parts meanwhile. */
  async #askForName(job: NarJob, signal: AbortSignal): Promise<void> {
    const { upstreams, http } = this.#options;
    job.namedBy = await cacheThatNames(job, upstreams, http, signal);
  }
}

function upstreamsFor({ job: { preferred }, lies }: Task, order: UpstreamOrder): Upstream[] {
  const ordered = order.of(lies);
  if (preferred === undefined || order.isLiar(preferred)) return ordered;
  return ordered.toSorted((a, b) => +(b === preferred) - +(a === preferred));
}
