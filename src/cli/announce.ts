/** Runs the on-complete command after an update, and reports its failures. */
import { FileStore } from '../store/file-store.ts';
import type { SubscriptionState } from '../subscription/state/state.ts';
import type { Output } from './output.ts';

export interface AnnounceFlags {
  readonly store: string;
  readonly dryRun?: boolean;
  readonly onComplete?: string;
}

/**
 * Runs the command of `--on-complete` for each subscription that is complete now. A failure is a warning.
 *
 * @param states the states after the update
 * @returns the failures. Empty without a command, and after an interruption: then the next update runs it
 */
export async function announce(
  output: Output,
  { store: dir, dryRun, onComplete: command }: AnnounceFlags,
  states: readonly SubscriptionState[],
  signal: AbortSignal,
): Promise<readonly Error[]> {
  if (command === undefined || dryRun === true || signal.aborted || states.length === 0) return [];
  const { announceComplete } = await import('../subscription/update/on-complete.ts');
  const store = await FileStore.open(dir, { create: false });
  const onBegin = (name: string): void => output.note(`${name}: running the on-complete command`);
  const failures = await announceComplete({ store, states, command, signal, onBegin });
  for (const { message, facts } of failures) output.warn(message, { kind: 'on-complete', ...facts });
  return failures;
}
