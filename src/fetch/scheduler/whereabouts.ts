import { isSilent, isUsable } from '../../discovery/peer-table.ts';
import type { Rival } from '../../exchange/download/rivals.ts';
import type { Network } from '../../swarm/network.ts';
import type { LanePolicy } from './lane-policy.ts';
import type { MemberLane } from './member-lane.ts';
import type { Task } from './task.ts';

/** Time for a member that has gone to come back. A service that is restarted takes a few seconds. */
const RETURN_MS = 15_000;

/**
 * Knows which sources may have a NAR now: members, clients outside our groups, another process that is fetching it.
 */
export class Whereabouts {
  readonly #network: Network | undefined;
  readonly #members: () => MemberLane | undefined;
  readonly #policy: LanePolicy;
  readonly #now: () => number;
  #areForeignersThere = false;
  #doForeignersAnswer = false;
  #haveForeignersSent = false;
  #membersAtMs = -Infinity;

  /**
   * @param members returns the lane of the members; undefined before it is there
   * @param now milliseconds of a clock
   */
  constructor(
    network: Network | undefined,
    members: () => MemberLane | undefined,
    policy: LanePolicy,
    now: () => number = () => performance.now(),
  ) {
    this.#now = now;
    this.#network = network;
    this.#members = members;
    this.#policy = policy;
  }

  /** Learns which peers are there. Everything else here is as of the last call. */
  look(): void {
    this.lookAtForeigners();
    this.#members()?.look();
    if (this.areMembersThere) this.#membersAtMs = this.#now();
  }

  /** Updates which clients outside our groups there are, and which of them answer. */
  lookAtForeigners(): void {
    const foreigners = this.#network?.foreigners().filter(({ banned }) => banned === undefined) ?? [];
    const answering = foreigners.filter((peer) => isUsable(peer) && !isSilent(peer));
    this.#areForeignersThere = foreigners.length > 0;
    this.#doForeignersAnswer = answering.length > 0;
    this.#haveForeignersSent = answering.some(({ rate }) => rate.lastByteAtMs > -Infinity);
  }

  /** True if there are clients outside our groups. */
  get areForeignersThere(): boolean {
    return this.#areForeignersThere;
  }

  /** True if there are clients outside our groups that may be asked and are not known to be silent. */
  get doForeignersAnswer(): boolean {
    return this.#doForeignersAnswer;
  }

  /** True once one of these clients has sent something. */
  get haveForeignersSent(): boolean {
    return this.#haveForeignersSent;
  }

  /**
   * Returns true if clients outside our groups should be asked for the NAR. If all are silent, had nothing or were not
   * reached, they are asked only if no upstream can be.
   */
  areForeignersFor({ job: { torrent }, upstreamFailure }: Task): boolean {
    if (torrent === undefined) return false;
    const isLastResort = !this.#policy.hasUpstream || upstreamFailure !== undefined;
    return isLastResort ? this.#areForeignersThere : this.#doForeignersAnswer;
  }

  /** True if members answer. They may give a NAR later: a daemon checks contents before it gives them. */
  get areMembersThere(): boolean {
    return (this.#members()?.size ?? 0) > 0;
  }

  /** False if there is no peer, and none can come. */
  get mayPeersCome(): boolean {
    return this.#network?.mayMeet ?? false;
  }

  /** True if members answer, or did a moment ago: then they may be restarting. */
  get mayMembersReturn(): boolean {
    return this.areMembersThere || this.#now() - this.#membersAtMs < RETURN_MS;
  }

  /** Returns true if a member has lost the NAR, and no other one has it or may get it. */
  isLostByMembers(task: Task): boolean {
    return this.#members()?.isLost(task) ?? false;
  }

  /** True while a member may be about to announce a file. */
  get isTooEarly(): boolean {
    const members = this.#members();
    if (!this.#policy.isEarly || members === undefined) return false;
    return members.isAsking || (this.#network?.members.isMeeting ?? false);
  }

  /** Returns true if an answering member has the NAR, or a missing part of it. A neighbour may have it uncompressed. */
  isAtMembers(task: Task): boolean {
    const members = this.#members();
    return members !== undefined && (members.isAtHand(task) || members.isUncompressedAtHand(task));
  }

  /** Returns true if only a neighbour has the NAR, and has it uncompressed. */
  isOnlyUncompressed(task: Task): boolean {
    const members = this.#members();
    return members !== undefined && members.isUncompressedAtHand(task) && !members.isAtHand(task);
  }

  /** Returns true if an answering member has the whole NAR. */
  hasHolder(task: Task): boolean {
    return this.#members()?.hasHolder(task) ?? false;
  }

  /** Returns true if another source than the upstreams may have the NAR. */
  mayPeersHave(task: Task): boolean {
    return this.isAtMembers(task) || this.areForeignersFor(task);
  }

  /**
   * Returns the claim of another process to be fetching the NAR from an upstream, if it is believed and has more of it
   * than we.
   */
  claimOf(task: Task): Rival['claim'] {
    return this.#members()?.otherFor(task)?.claim;
  }

  /** Returns true if another process should fetch the NAR from an upstream, and give it to us. */
  isLeftToOther(task: Task): boolean {
    if (this.claimOf(task) !== undefined) return true;
    return this.#policy.isSharing && this.#members()?.otherFor(task) !== undefined;
  }
}
