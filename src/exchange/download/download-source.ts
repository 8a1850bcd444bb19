import { isSilent, noteGoodBytes } from '../../discovery/peer-table.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { Member } from '../member.ts';
import type { Refusal } from '../messages/messages.ts';
import type { Claim } from '../link/their-fetches.ts';
import type { Pieces, Source } from './unit.ts';

/** Time after a refusal before a member is asked for the same file again, by reason. */
const REFUSED_MS: Readonly<Record<Refusal, number>> = {
  absent: 3_000,
  withheld: 10_000,
  busy: 500,
  range: 60_000,
  failed: 2_000,
  cancelled: 0,
};
/** Refusals in a row after which a member has lost a file that it had. */
const LOST_AFTER = 3;
/** Time before a member that had nothing to choose from may choose again, unless it has news. */
const CHOOSE_AGAIN_MS = 150;

/** The behaviour of hosts in this run. All connections of a host count together. */
export interface Hosts {
  /** Hosts that have given wrong parts of files that they did not have completely. */
  readonly misleading: Set<string>;
  /** Hosts that have given right bytes. */
  readonly proven: Set<string>;
}

/** A member as a source of files, with its refusals. */
export class DownloadSource implements Source {
  readonly member: Member;
  /** Times before which it is not asked for anything, or for any range (`performance.now`). */
  notBeforeMs = 0;
  notAnyBeforeMs = 0;
  readonly #refused = new Map<FileHash, number>();
  /** Number of times in a row that it did not have a file although it had said so. */
  readonly #absences = new Map<FileHash, number>();
  readonly #hosts: Hosts;

  constructor(member: Member, hosts: Hosts) {
    this.member = member;
    this.#hosts = hosts;
  }

  /** True if its host has given wrong parts of a file that it did not have completely. */
  get isMisleading(): boolean {
    return this.#hosts.misleading.has(this.member.host);
  }

  /** True if its host has given right bytes, and never wrong parts. */
  get isProven(): boolean {
    return this.#hosts.proven.has(this.member.host) && !this.isMisleading;
  }

  get givesUnfinished(): boolean {
    return this.isNeighbour && this.#isCredible;
  }

  /** Once a host has given wrong parts, only hosts that have given right bytes are believed: a liar may have many. */
  get #isCredible(): boolean {
    return this.#hosts.misleading.size === 0 || this.isProven;
  }

  /** Records that it has given wrong parts, whose bytes it had not checked, either. */
  mislead(): void {
    this.#hosts.misleading.add(this.member.host);
  }

  /** Records that it has given right bytes. */
  prove(bytes: number): void {
    noteGoodBytes(this.member.peer, bytes);
    this.#hosts.proven.add(this.member.host);
  }

  /** True once it has sent wrong bytes: nothing more is taken from it. */
  get isBanned(): boolean {
    return this.member.peer.banned !== undefined;
  }

  get isNeighbour(): boolean {
    return this.member.isNeighbour;
  }

  get rate(): number | undefined {
    return this.member.peer.rate.rate(performance.now());
  }

  get rateSoFar(): number | undefined {
    return this.member.peer.rate.rateSoFar(performance.now());
  }

  get isLate(): boolean {
    return this.member.isLate;
  }

  get isSilent(): boolean {
    return isSilent(this.member.peer);
  }

  has(file: FileHash): 'whole' | Pieces | undefined {
    const untilMs = this.#refused.size === 0 ? undefined : this.#refused.get(file);
    if (untilMs !== undefined && performance.now() < untilMs) return undefined;
    return this.member.has(file);
  }

  wants(file: FileHash): boolean {
    return this.member.wants(file);
  }

  /** Returns its claim to fetch a file, if it is credible. */
  fetching(file: FileHash): Claim | undefined {
    return this.#isCredible ? this.member.fetching(file) : undefined;
  }

  /** Returns true if it has said that it has a file, and then did not have it several times in a row. */
  hasLost(file: FileHash): boolean {
    return (this.#absences.get(file) ?? 0) >= LOST_AFTER;
  }

  /** Records that it has given a range of a file. */
  onGiven(file: FileHash): void {
    this.#absences.delete(file);
  }

  /** Records that it does not give a file now. */
  refuse(file: FileHash, reason: Refusal): void {
    if (reason === 'absent') this.#absences.set(file, (this.#absences.get(file) ?? 0) + 1);
    const nowMs = performance.now();
    if (reason === 'busy') this.notBeforeMs = nowMs + REFUSED_MS.busy;
    else if (reason !== 'cancelled') this.#refused.set(file, nowMs + REFUSED_MS[reason]);
  }

  /** Records that it has nothing to choose from now. */
  refuseAny(): void {
    this.notAnyBeforeMs = performance.now() + CHOOSE_AGAIN_MS;
  }

  /** Records that it has more of a file. */
  onNews(file: FileHash): void {
    this.#refused.delete(file);
    this.#absences.delete(file);
    this.notAnyBeforeMs = 0;
  }
}
