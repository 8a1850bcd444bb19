import { EventEmitter, once } from 'node:events';
import type { NarInfo } from '../nix/narinfo.ts';
import type { NarJob } from './job.ts';
import { mostLeft, type Task } from './task.ts';

/** Looks up the torrent of a narinfo's file in the hash maps. */
export type TorrentOf = (info: NarInfo) => Promise<NarJob['torrent']>;

/** The sources from which a NAR can be fetched, as far as known now. */
export interface Whereabouts {
  /** Returns true if an answering member has the NAR, or a missing part of it. */
  readonly isAtMembers: (task: Task) => boolean;
  /** Returns true if another process should fetch the NAR from an upstream, and give it to us. */
  readonly isLeftToOther: (task: Task) => boolean;
  /** Returns true if an upstream may take over a task that another process fetches. */
  readonly mayTakeOver: () => boolean;
  /** Returns true if clients outside our groups may have the NAR. */
  readonly areForeignersThere: () => boolean;
  /** Returns true if a member may be about to announce the NAR. */
  readonly isTooEarly: () => boolean;
  /** Returns true if an upstream should take a task of the peers. The call may begin a trial. */
  readonly upstreamMayHelp: () => boolean;
}

/** The tasks that no lane works on. Chooses the next one for each kind of lane. */
export class TaskQueues {
  readonly #where: Whereabouts;
  readonly #atMembers = new Set<Task>();
  readonly #elsewhere = new Set<Task>();
  readonly #news = new EventEmitter<{ change: [] }>();
  #open = 0;

  constructor(where: Whereabouts) {
    this.#where = where;
    this.#news.setMaxListeners(0);
  }

  /** Adds a new task. */
  add(task: Task): void {
    this.#open++;
    this.queue(task);
  }

  /** Queues a task that no lane works on any more. */
  queue(task: Task): void {
    task.handOver = new AbortController();
    (this.#where.isAtMembers(task) ? this.#atMembers : this.#elsewhere).add(task);
    this.tellChange();
  }

  /** Takes out a task. Returns false if a lane works on it. */
  take(task: Task): boolean {
    return this.#atMembers.delete(task) || this.#elsewhere.delete(task);
  }

  /** Records that a task is done, with or without its NAR. */
  settle(): void {
    this.#open--;
    if (this.isDone) this.tellChange();
  }

  /** True once every task is settled. */
  get isDone(): boolean {
    return this.#open === 0;
  }

  /** Checks again which tasks members have. */
  sort(): void {
    for (const [set, other] of [
      [this.#atMembers, this.#elsewhere],
      [this.#elsewhere, this.#atMembers],
    ] as const) {
      for (const task of set) {
        if (this.#where.isAtMembers(task) === (set === this.#atMembers)) continue;
        set.delete(task);
        other.add(task);
      }
    }
  }

  /** Takes a task for clients outside our groups: a NAR with a torrent that no member has. */
  nextForForeigners(): Task | undefined {
    const { areForeignersThere, isTooEarly, isAtMembers } = this.#where;
    if (this.#elsewhere.size === 0 || !areForeignersThere() || isTooEarly()) return undefined;
    return this.#first(this.#elsewhere, (task) => isForForeigners(task) && !isAtMembers(task));
  }

  /** Takes a task that only an upstream has, or one of the peers' that an upstream should take over. */
  nextForUpstream(): Task | undefined {
    const { areForeignersThere, isTooEarly, isAtMembers, isLeftToOther, mayTakeOver, upstreamMayHelp } = this.#where;
    const mayHave = (task: Task): boolean => task.upstreamFailure === undefined && !isLeftToOther(task);
    if (this.#elsewhere.size > 0 && !isTooEarly()) {
      const isForPeers = areForeignersThere();
      const isWaiting = (task: Task): boolean => !(isForPeers && isForForeigners(task)) && !isAtMembers(task);
      const waiting = this.#first(this.#elsewhere, (task) => mayHave(task) && isWaiting(task));
      if (waiting !== undefined) return waiting;
      if (mayTakeOver()) {
        const isLeft = (task: Task): boolean => task.upstreamFailure === undefined && isWaiting(task);
        const left = mostLeft([...this.#elsewhere].filter(isLeft));
        if (left !== undefined && this.take(left)) return left;
      }
    }
    const isAny = this.#some(mayHave);
    if (!isAny || !upstreamMayHelp()) return undefined;
    const ofPeers = [...this.waiting()].filter(mayHave);
    const task = ofPeers.findLast(({ partial }) => partial === undefined) ?? mostLeft(ofPeers);
    if (task === undefined || !this.take(task)) return undefined;
    task.isHelped = true;
    return task;
  }

  /** True if an upstream could fetch a task that is left to another process, and no member has it yet. */
  get waitsForOthers(): boolean {
    const { isAtMembers, isLeftToOther } = this.#where;
    for (const task of this.#elsewhere)
      if (task.upstreamFailure === undefined && isLeftToOther(task) && !isAtMembers(task)) return true;
    return false;
  }

  /** Lets clients outside our groups be asked for missing NARs again, since there is a new client. */
  retryForeigners(): void {
    for (const task of this.#elsewhere) task.peersTried = false;
    this.tellChange();
  }

  /** True if no task waits. */
  get isEmpty(): boolean {
    return this.#atMembers.size === 0 && this.#elsewhere.size === 0;
  }

  /** Yields the tasks that no lane works on. */
  *waiting(): Generator<Task> {
    yield* this.#elsewhere;
    yield* this.#atMembers;
  }

  /** Wakes the waiting lanes. */
  tellChange(): void {
    this.#news.emit('change');
  }

  /** Resolves at the next change. */
  changed(): Promise<unknown> {
    return once(this.#news, 'change');
  }

  /**
   * Takes out NARs that are not begun and whose torrent has become known. Looks up all torrents first, so that no task
   * is missing meanwhile.
   */
  async takeWithTorrents(torrentOf: TorrentOf): Promise<{ task: Task; torrent: NonNullable<NarJob['torrent']> }[]> {
    const isUntouched = ({ job, partial }: Task): boolean => job.torrent === undefined && partial === undefined;
    const found: { task: Task; torrent: NonNullable<NarJob['torrent']> }[] = [];
    for (const task of [...this.waiting()].filter(isUntouched)) {
      const torrent = await torrentOf(task.job.info);
      if (torrent !== undefined) found.push({ task, torrent });
    }
    return found.filter(({ task }) => isUntouched(task) && this.take(task)); // others were begun meanwhile
  }

  #some(isIt: (task: Task) => boolean): boolean {
    for (const task of this.waiting()) if (isIt(task)) return true;
    return false;
  }

  #first(tasks: Set<Task>, isIt: (task: Task) => boolean): Task | undefined {
    for (const task of tasks) {
      if (!isIt(task)) continue;
      tasks.delete(task);
      return task;
    }
    return undefined;
  }
}

function isForForeigners({ job, peersTried }: Task): boolean {
  return job.torrent !== undefined && !peersTried;
}
