import { EventEmitter, once } from 'node:events';
import type { NarInfo } from '../nix/narinfo.ts';
import type { NarJob } from './job.ts';
import type { Task } from './task.ts';

export interface TaskQueuesOptions {
  readonly hasPeers: boolean;
  readonly hasUpstreams: boolean;
  /** Whether an upstream should take a task that is the peers'. Asking may begin a trial. */
  readonly upstreamMayHelp: () => boolean;
}

/** The tasks that are not settled yet, by who is to have them next; lanes that find none wait here for a change. */
export class TaskQueues {
  readonly #options: TaskQueuesOptions;
  readonly #forPeers: Task[] = [];
  readonly #forUpstreams: Task[] = [];
  readonly #news = new EventEmitter<{ change: [] }>();
  #open = 0;

  constructor(options: TaskQueuesOptions) {
    this.#options = options;
    this.#news.setMaxListeners(0);
  }

  /** Takes in a new task. */
  add(task: Task): void {
    this.#open++;
    this.queue(task);
  }

  /** Queues a task: for peers, or where those were asked already for upstreams. */
  queue(task: Task): void {
    const toPeers = this.#options.hasPeers && task.job.torrent !== undefined && !task.peersTried;
    task.handOver = new AbortController();
    if (toPeers || !this.#options.hasUpstreams) this.#forPeers.push(task);
    else this.#forUpstreams.push(task);
    this.tellChange();
  }

  /** Takes down that a task is done, with its NAR or without. */
  settle(): void {
    this.#open--;
    this.tellChange();
  }

  /** True once every task is settled. */
  get isDone(): boolean {
    return this.#open === 0;
  }

  nextForPeers(): Task | undefined {
    return this.#forPeers.shift();
  }

  /** A task that waits for an upstream, or else one of the peers' that it should take over. */
  nextForUpstream(): Task | undefined {
    const waiting = this.#forUpstreams.shift();
    if (waiting !== undefined) return waiting;
    const last = this.#forPeers.findLastIndex((task) => task.upstreamFailure === undefined);
    if (last === -1 || !this.#options.upstreamMayHelp()) return undefined;
    return this.#forPeers.splice(last, 1)[0];
  }

  /** Queues for peers again what waits for an upstream since they had nothing: there is a new one. */
  retryPeers(): void {
    const again = this.#forUpstreams.filter((task) => task.peersTried && task.job.torrent !== undefined);
    for (const task of again) {
      this.#forUpstreams.splice(this.#forUpstreams.indexOf(task), 1);
      task.peersTried = false;
      this.queue(task);
    }
  }

  /** True where no task waits for anybody. */
  get isEmpty(): boolean {
    return this.#forPeers.length === 0 && this.#forUpstreams.length === 0;
  }

  /** Has the lanes that wait look again. */
  tellChange(): void {
    this.#news.emit('change');
  }

  /** Resolves at the next change. */
  changed(): Promise<unknown> {
    return once(this.#news, 'change');
  }

  /**
   * Gives torrents to the NARs that wait for an upstream and have none: a hash map was found only now. From here on they
   * wait for peers first.
   */
  async attach(torrentOf: (info: NarInfo) => Promise<NarJob['torrent']>): Promise<void> {
    if (!this.#options.hasPeers) return;
    for (const task of this.#forUpstreams.filter(
      ({ job, partial }) => job.torrent === undefined && partial === undefined,
    )) {
      const torrent = await torrentOf(task.job.info);
      const at = this.#forUpstreams.indexOf(task);
      if (torrent === undefined || at === -1) continue; // an upstream has begun it meanwhile
      task.job.torrent = torrent;
      this.#forUpstreams.splice(at, 1);
      this.queue(task);
    }
  }
}
