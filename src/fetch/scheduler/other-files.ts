/** Decides when a NAR is continued as its other file: uncompressed at a neighbour, or as its narinfo named it. */
import type { LaneWork } from './lane-work.ts';
import type { TaskOutcomes } from './task-outcomes.ts';
import type { TaskQueues } from './task-queues.ts';
import type { Task } from './task.ts';
import type { Whereabouts } from './whereabouts.ts';

/** Looks without a holder after which the named file is wanted again. A refusal lasts for three seconds. */
const LOOKS_WITHOUT = 8;

export interface OtherFilesContext {
  readonly queues: TaskQueues;
  readonly where: Whereabouts;
  readonly work: LaneWork;
  readonly outcomes: TaskOutcomes;
  readonly signal: AbortSignal;
}

/**
 * Looks at all waiting NARs. A NAR that only a neighbour has, uncompressed, is fetched in that form. If no neighbour
 * has it any more, it goes back to the file that its narinfo named: an upstream does that by itself, and members may
 * have that file.
 */
export function changeFiles({ queues, where, work, outcomes, signal }: OtherFilesContext): void {
  const waiting = Array.from(queues.waiting());
  for (const task of waiting) task.looksWithout = where.isAtMembers(task) ? 0 : task.looksWithout + 1;
  const isStranded = (task: Task): boolean => task.named !== undefined && task.looksWithout >= LOOKS_WITHOUT;
  for (const task of waiting) {
    const change = where.isOnlyUncompressed(task)
      ? () => work.asUncompressed(task)
      : isStranded(task)
        ? () => work.asNamed(task)
        : undefined;
    if (change !== undefined && queues.take(task)) void outcomes.work(task, change, signal);
  }
}
