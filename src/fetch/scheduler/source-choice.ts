import type { Claim } from '../../exchange/link/their-fetches.ts';
import type { LanePolicy } from './lane-policy.ts';
import { areOthersSooner, type TakeOvers } from './take-overs.ts';
import type { TaskQueues } from './task-queues.ts';
import { leftOf, mostLeft, type Task } from './task.ts';
import type { Whereabouts } from './whereabouts.ts';

/** Size up to which a round trip takes most of the time of a NAR on a fast line. On a slow one, small NARs have no slots. */
const SMALL_BYTES = 1024 * 1024;
/**
 * Time that members have for a NAR before an upstream takes it because they are slower. Until they had it, they could send
 * nothing: that says nothing of their rate.
 */
const THEIR_CHANCE_MS = 2_000;

/** The facts on which a source gets a NAR. */
export interface ChoiceFacts {
  readonly queues: TaskQueues;
  readonly where: Whereabouts;
  readonly policy: LanePolicy;
  readonly takeOvers: TakeOvers<Task>;
}

/** Chooses the next NAR for each kind of lane. Members have every NAR that waits: they need no choice here. */
export class SourceChoice {
  readonly #facts: ChoiceFacts;
  /** As of the last look; undefined if not asked since. */
  #areOthersSooner: boolean | undefined;

  constructor(facts: ChoiceFacts) {
    this.#facts = facts;
  }

  /** Forgets results of the last look of the whereabouts. */
  look(): void {
    this.#areOthersSooner = undefined;
  }

  /** Takes a task for clients outside our groups: a NAR with a torrent that no member has. */
  nextForForeigners(): Task | undefined {
    const { queues, where } = this.#facts;
    if (!queues.hasElsewhere || !where.areForeignersThere || where.isTooEarly) return undefined;
    return queues.takeElsewhere((task) => this.#isForForeigners(task) && !where.isAtMembers(task));
  }

  /** Takes a further task for clients outside our groups once one of them has sent something. */
  nextForProvenForeigners(): Task | undefined {
    return this.#facts.where.haveForeignersSent ? this.nextForForeigners() : undefined;
  }

  /** Takes a task that only an upstream has, or one of the peers' that an upstream should take over. */
  nextForUpstream(): Task | undefined {
    const task = this.#ofUpstream() ?? this.#ofPeers();
    const { where, takeOvers } = this.#facts;
    if (task !== undefined && where.claimOf(task) !== undefined) takeOvers.begin(task);
    return task;
  }

  /** Takes a small task that only an upstream has. */
  nextSmallForUpstream(): Task | undefined {
    return this.#ofUpstream(isSmallNar);
  }

  /** True if an upstream could fetch a task that is left to another process, and no member has it yet. */
  get waitsForOthers(): boolean {
    const { queues, where } = this.#facts;
    for (const task of queues.elsewhere())
      if (task.upstreamFailure === undefined && where.isLeftToOther(task) && !where.isAtMembers(task)) return true;
    return false;
  }

  /** Takes a task that no peer has; if there is none, one that another process says it is fetching. */
  #ofUpstream(fits: (task: Task) => boolean = () => true): Task | undefined {
    const { queues, where, takeOvers } = this.#facts;
    if (!queues.hasElsewhere || where.isTooEarly) return undefined;
    const isWaiting = (task: Task): boolean => !this.#isForForeigners(task) && !where.isAtMembers(task);
    const waiting = queues.takeElsewhere((task) => fits(task) && this.#mayHave(task) && isWaiting(task));
    if (waiting !== undefined || !takeOvers.mayTry(this.#isOtherWaitedFor)) return waiting;
    const isLeft = (task: Task): boolean => fits(task) && task.upstreamFailure === undefined && isWaiting(task);
    const left = mostLeft([...queues.elsewhere()].filter(isLeft));
    return left !== undefined && queues.take(left) ? left : undefined;
  }

  /** Takes a task that waits for peers, if they are slower than an upstream. */
  #ofPeers(): Task | undefined {
    const { queues, where, policy } = this.#facts;
    const untilMs = performance.now() - THEIR_CHANCE_MS;
    const mayTake = (task: Task): boolean => task.atMembersSinceMs <= untilMs && this.#mayHave(task);
    if (!queues.some(mayTake)) return undefined;
    if (!policy.upstreamMayHelp(where.doForeignersAnswer || where.areMembersThere)) return undefined;
    // An upstream has no uncompressed file: it would begin again.
    const ofPeers = [...queues.waiting()].filter((task) => mayTake(task) && task.named === undefined);
    const task = ofPeers.findLast(({ partial }) => partial === undefined) ?? mostLeft(ofPeers);
    if (task === undefined || !queues.take(task)) return undefined;
    task.isHelped = true;
    task.peersBytesPerSec = policy.peersBytesPerSec;
    return task;
  }

  /** Returns true if an upstream may have the NAR, and no other process should fetch it. */
  #mayHave(task: Task): boolean {
    return task.upstreamFailure === undefined && !this.#facts.where.isLeftToOther(task);
  }

  /** Returns true if clients outside our groups come before upstreams. */
  #isForForeigners(task: Task): boolean {
    return !task.peersTried && this.#facts.where.areForeignersFor(task);
  }

  /** True while NARs are left to other processes in any case. */
  get #isOtherWaitedFor(): boolean {
    const { policy } = this.#facts;
    if (policy.isSharing) return true;
    // Asked only while nothing else is left to do, since it looks at all waiting tasks.
    return (this.#areOthersSooner ??= areOthersSooner(this.#fetchedByOthers(), policy.upstreamBytesPerSec));
  }

  *#fetchedByOthers(): Generator<{ sizeBytes: number; leftBytes: number; claim: Claim }> {
    const { queues, where } = this.#facts;
    for (const task of queues.waiting()) {
      const claim = where.claimOf(task);
      if (claim !== undefined) yield { sizeBytes: task.job.sizeBytes, leftBytes: leftOf(task), claim };
    }
  }
}

/** Returns true if little is left of a NAR, so that the round trip takes most of its time. */
export function isSmallNar(task: Task): boolean {
  return leftOf(task) <= SMALL_BYTES;
}
