import type { NarswarmError } from '../../errors.ts';
import type { NarJob } from '../plan/job.ts';
import type { LanePolicy } from './lane-policy.ts';
import { ATTEMPTS, reasonsOf, unavailable, type Task } from './task.ts';
import type { UpstreamOrder } from './upstream-order.ts';
import type { Whereabouts } from './whereabouts.ts';

/** The facts on which a NAR is given up. */
export interface Hope {
  /** True if there is no upstream: everything must come from peers. */
  readonly isAlone: boolean;
  readonly where: Whereabouts;
  readonly policy: LanePolicy;
  readonly order: UpstreamOrder;
  /** True to wait for peers that are there, if upstreams have failed: they may have the NAR later. */
  readonly waitsForPeers: boolean;
}

/** Returns why a waiting NAR should be given up: no source has it. Undefined while one may. */
export function reasonToGiveUp(
  task: Task,
  { isAlone, where, policy, order, waitsForPeers }: Hope,
): NarswarmError | undefined {
  const { upstreamFailure } = task;
  if (isAlone && !where.mayPeersCome) return nobodyToAsk(task.job);
  // NARs that were never requested from an upstream are given up only after a long outage.
  const isOutOfReach = order.areUnreachable && policy.isOutageLong;
  if (!isAlone && upstreamFailure === undefined && !isOutOfReach) return undefined;
  const areMembersLeft = order.areUnreachable && where.mayMembersReturn && !where.isLostByMembers(task);
  const mayCome =
    isAlone ||
    where.isTooEarly ||
    areMembersLeft ||
    (waitsForPeers && (where.areMembersThere || where.doForeignersAnswer)) ||
    where.isAtMembers(task) ||
    (where.mayPeersHave(task) && !task.peersTried);
  if (mayCome && !policy.standsStill) return undefined;
  if (isAlone) return unavailableAtPeers(task);
  const why = upstreamFailure === undefined ? 'no cache answers any longer' : reasonsOf(upstreamFailure);
  return unavailable(task.job, why, upstreamFailure);
}

/** Records that peers have given up a NAR. Returns true if upstreams failed and peers brought nothing more, several times. */
export function isHopeless(task: Task, heldBytes: number): boolean {
  if (task.upstreamFailure === undefined) return false;
  task.attempts = heldBytes > task.heldBytes ? 0 : task.attempts + 1;
  task.heldBytes = heldBytes;
  return task.attempts > ATTEMPTS;
}

/** Makes the error of a NAR that no peer delivers, if no other source can be asked. */
export function unavailableAtPeers({ job }: Task): NarswarmError {
  return unavailable(job, 'no peer delivers it: try again when a peer has it, or name a cache with --from');
}

/** Makes the error of a NAR that nobody can be asked for, now or later. */
export function nobodyToAsk(job: NarJob): NarswarmError {
  return unavailable(
    job,
    'there is neither a cache nor a peer to ask: name a cache with --from, a peer with --peer, or leave out --no-dht, --no-lan or --scope off',
  );
}
