import type { LaneWork } from './lane-work.ts';
import type { Verdict } from './nar-judge.ts';
import { SMALL_SLOTS, SmallSlots } from './small-slots.ts';
import { isSmallNar, type SourceChoice } from './source-choice.ts';
import type { TaskOutcomes } from './task-outcomes.ts';
import type { TaskQueues } from './task-queues.ts';
import { leftOf, type Task } from './task.ts';

/** Limit on NARs that are requested from clients outside our groups at the same time before any of them has sent something. */
export const UNPROVEN_SLOTS = 8;
/** Number of NARs that are requested besides once one has. Each torrent needs its own connection, so many are needed. */
const PROVEN_SLOTS = 56;
/** Limit on NARs that are requested from upstreams at the same time. Small ones have {@link SMALL_SLOTS} more. */
const UPSTREAM_SLOTS = 8;
/**
 * The same for an import, if these NARs keep the line busy: it wants them in their order, and with fewer at a time, each
 * gets a larger share of the line.
 */
export const ORDERED_SLOTS = 2;
/** Time for which the NARs that are requested should keep the line busy, in seconds. */
const AHEAD_S = 0.15;
/** The bytes of that at least, and before the rate is known. */
const AHEAD_BYTES = 1024 * 1024;

export interface LanesOptions {
  readonly queues: TaskQueues;
  readonly choice: SourceChoice;
  readonly work: LaneWork;
  readonly outcomes: TaskOutcomes;
  /** Returns true while no other machine takes part: only then upstreams are asked for more small NARs. */
  readonly isAlone: () => boolean;
  /** Returns true if the NARs are wanted in the order in which they wait. */
  readonly isOrdered: () => boolean;
  /**
   * True if the download yields to other traffic. Then one more NAR would only wait in the buffers of the system: up to
   * a megabyte, which arrives at once when it is requested.
   */
  readonly yields: boolean;
  /** Returns true while no further NAR is to be requested. */
  readonly isHeldBack: () => boolean;
  /** Returns the rate of upstreams so far. Undefined if it is not known. */
  readonly bytesPerSec: () => number | undefined;
  readonly signal: AbortSignal;
}

/** The lanes of a fetch. Each takes one task after another until all are settled. */
export class Lanes {
  readonly #options: LanesOptions;
  readonly #smallSlots = new SmallSlots<Task>(({ job }) => job.sizeBytes);
  /** The tasks that upstreams are asked for. */
  readonly #asked = new Set<Task>();

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** Lets clients outside our groups work. */
  async byForeigners(): Promise<void> {
    const { choice, work, isHeldBack, signal } = this.#options;
    const ask = (task: Task): Promise<Verdict> => work.byForeigners(task, signal);
    const next = (): Task | undefined => (isHeldBack() ? undefined : choice.nextForForeigners());
    const nextForProven = (): Task | undefined => (isHeldBack() ? undefined : choice.nextForProvenForeigners());
    await Promise.all([this.#run(UNPROVEN_SLOTS, () => next, ask), this.#run(PROVEN_SLOTS, () => nextForProven, ask)]);
  }

  /** Lets upstreams work. */
  async byUpstreams(): Promise<void> {
    const { choice, isAlone } = this.#options;
    const work = (task: Task): Promise<Verdict> => this.#askUpstreams(task);
    const next = (): Task | undefined => this.#ask(() => choice.nextForUpstream());
    const nextSmall = (): Task | undefined => (isAlone() ? this.#ask(() => choice.nextSmallForUpstream()) : undefined);
    await Promise.all([
      this.#run(UPSTREAM_SLOTS, () => next, work),
      this.#run(SMALL_SLOTS, () => this.#smallSlots.taker(nextSmall), work),
    ]);
  }

  /** Takes the next task for upstreams, unless it would only slow down what is wanted sooner. */
  #ask(next: () => Task | undefined): Task | undefined {
    if (this.#options.isHeldBack()) return undefined;
    if ((this.#options.isOrdered() || this.#options.yields) && this.#hasEnough) return undefined;
    const task = next();
    if (task !== undefined) this.#asked.add(task);
    return task;
  }

  /** True if the NARs that upstreams are asked for keep the line busy. */
  get #hasEnough(): boolean {
    if (this.#asked.size < ORDERED_SLOTS) return false;
    const wanted = Math.max(AHEAD_BYTES, (this.#options.bytesPerSec() ?? 0) * AHEAD_S);
    let leftBytes = 0;
    for (const task of this.#asked) leftBytes += leftOf(task);
    return leftBytes >= wanted;
  }

  async #run(
    count: number,
    makeTaker: () => () => Task | undefined,
    work: (task: Task) => Promise<Verdict>,
  ): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#lane(makeTaker(), work)));
  }

  async #lane(next: () => Task | undefined, work: (task: Task) => Promise<Verdict>): Promise<void> {
    const { queues, outcomes, signal } = this.#options;
    while (!queues.isDone && !signal.aborted) {
      const task = next();
      if (task === undefined) await queues.changed();
      else await outcomes.work(task, () => work(task), signal).finally(() => this.#asked.delete(task));
    }
  }

  async #askUpstreams(task: Task): Promise<Verdict> {
    const { queues, work, signal } = this.#options;
    const beganAtMs = performance.now();
    const isSmall = isSmallNar(task);
    const verdict = await work.byUpstreams(task, signal);
    if (isSmall && verdict === 'fetched' && this.#smallSlots.noteNar(performance.now() - beganAtMs))
      queues.tellChange();
    return verdict;
  }
}
