import type { LanePolicy } from './lane-policy.ts';
import type { LaneWork } from './lane-work.ts';
import type { TakeOvers } from './take-overs.ts';
import type { TaskQueues } from './task-queues.ts';
import { HAND_OVER_BYTES, leftOf, mostLeft, type Task } from './task.ts';
import type { Whereabouts } from './whereabouts.ts';

/** The facts on which a NAR goes to another source. */
export interface HandOverFacts {
  readonly queues: TaskQueues;
  readonly work: LaneWork;
  readonly where: Whereabouts;
  readonly policy: LanePolicy;
  readonly takeOvers: TakeOvers<Task>;
}

/**
 * Looks at all NARs that clients outside our groups, or upstreams, are sending. Ends the work on those that another
 * source should continue: their lanes queue them again.
 */
export function handOver(facts: HandOverFacts): void {
  const { queues, work, policy } = facts;
  for (const task of [...work.atUpstreams, ...work.atForeigners]) handToMembers(task, facts);
  for (const task of work.atUpstreams) {
    leaveToForeigners(task, facts);
    leaveToOther(task, facts);
  }
  const slow = queues.isEmpty ? mostLeft(work.atForeigners) : undefined;
  if (slow !== undefined && policy.upstreamMayHelp(true)) slow.handOver.abort();
}

/** Moves a task to a member that has it, if that is faster than its present source, or if an upstream sends nothing. */
function handToMembers(task: Task, { work, where, policy }: HandOverFacts): void {
  if (task.handOver.signal.aborted) return;
  if (!where.hasHolder(task)) {
    // A neighbour has it uncompressed: the bytes so far are lost, so there may be only a few.
    if (!task.isHelped && where.isOnlyUncompressed(task) && policy.areMembersFaster) task.handOver.abort();
    return;
  }
  const isWorthMoving = leftOf(task) > HAND_OVER_BYTES;
  if (!task.isHelped && isWorthMoving && policy.areMembersFaster) task.handOver.abort();
  else if (task.isHelped && isWorthMoving && policy.wasHelpInVain(task.atUpstreamsMs, task.peersBytesPerSec)) {
    task.isHelped = false;
    task.handOver.abort();
  } else if (work.atUpstreams.has(task) && policy.areUpstreamsSilent(task.atUpstreamsMs, task.timesLeft)) {
    task.timesLeft++;
    policy.onLeft();
    if (task.isHelped) policy.onFailedTrial();
    task.isHelped = false;
    task.handOver.abort();
  }
}

/** Moves a task from silent upstreams to clients that were not asked for it: they, or its torrent, came late. */
function leaveToForeigners(task: Task, { where, policy }: HandOverFacts): void {
  if (task.handOver.signal.aborted || task.peersTried || task.isHelped || !where.areForeignersFor(task)) return;
  if (!policy.areUpstreamsSilent(task.atUpstreamsMs, task.timesLeft)) return;
  task.timesLeft++;
  policy.onLeft();
  task.handOver.abort();
}

/** Ends a task at an upstream if another process is also fetching it and has more of it. */
function leaveToOther(task: Task, { where, takeOvers }: HandOverFacts): void {
  if (task.isHelped || task.handOver.signal.aborted || leftOf(task) <= HAND_OVER_BYTES) return;
  const claim = where.claimOf(task);
  if (claim !== undefined && !takeOvers.isWorthIt(task, claim)) task.handOver.abort();
}
