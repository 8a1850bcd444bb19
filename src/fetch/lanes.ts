import type { LaneWork } from './lane-work.ts';
import type { Verdict } from './nar-judge.ts';
import { SMALL_SLOTS, SmallSlots } from './small-slots.ts';
import { isSmallNar, type SourceChoice } from './source-choice.ts';
import type { TaskOutcomes } from './task-outcomes.ts';
import type { TaskQueues } from './task-queues.ts';
import type { Task } from './task.ts';

/** Limit on NARs that are requested from clients outside our groups at the same time before any of them has sent something. */
export const UNPROVEN_SLOTS = 8;
/** Number of NARs that are requested besides once one has. Each torrent needs its own connection, so many are needed. */
const PROVEN_SLOTS = 56;
/** Limit on NARs that are requested from upstreams at the same time. Small ones have {@link SMALL_SLOTS} more. */
export const UPSTREAM_SLOTS = 8;

export interface LanesOptions {
  readonly queues: TaskQueues;
  readonly choice: SourceChoice;
  readonly work: LaneWork;
  readonly outcomes: TaskOutcomes;
  /** Returns true while no other machine takes part: only then upstreams are asked for more small NARs. */
  readonly isAlone: () => boolean;
  readonly signal: AbortSignal;
}

/** The lanes of a fetch. Each takes one task after another until all are settled. */
export class Lanes {
  readonly #options: LanesOptions;
  readonly #smallSlots = new SmallSlots();

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** Lets clients outside our groups work. */
  async byForeigners(): Promise<void> {
    const { choice, work, signal } = this.#options;
    const ask = (task: Task): Promise<Verdict> => work.byForeigners(task, signal);
    await Promise.all([
      this.#run(UNPROVEN_SLOTS, () => () => choice.nextForForeigners(), ask),
      this.#run(PROVEN_SLOTS, () => () => choice.nextForProvenForeigners(), ask),
    ]);
  }

  /** Lets upstreams work. */
  async byUpstreams(): Promise<void> {
    const { choice, isAlone } = this.#options;
    const work = (task: Task): Promise<Verdict> => this.#askUpstreams(task);
    const nextSmall = (): Task | undefined => (isAlone() ? choice.nextSmallForUpstream() : undefined);
    await Promise.all([
      this.#run(UPSTREAM_SLOTS, () => () => choice.nextForUpstream(), work),
      this.#run(SMALL_SLOTS, () => this.#smallSlots.taker(nextSmall), work),
    ]);
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
      else await outcomes.work(task, () => work(task), signal);
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
