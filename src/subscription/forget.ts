import type { FileStore } from '../store/file-store.ts';
import { Turn } from '../store/turn.ts';
import { removeState, type SubscriptionState } from './state.ts';
import type { Subscription } from './subscription.ts';

/** What a config file has now. */
export interface Configured {
  /** Absolute path of the config file, as states have it. */
  readonly configPath?: string | undefined;
  readonly configured: readonly Pick<Subscription, 'name'>[];
}

/** States of subscriptions of this config file that are in it no more; those of another one are none of them. */
export function goneFrom(
  states: readonly SubscriptionState[],
  { configPath, configured }: Configured,
): SubscriptionState[] {
  const names = new Set(configured.map(({ name }) => name));
  return states.filter(({ name, config }) => config === configPath && !names.has(name));
}

/**
 * Forgets subscriptions after what only they kept was collected, unless an update is at work: then the next one does.
 *
 * @returns the names of those that are forgotten
 */
export async function forgetStates(store: FileStore, states: readonly SubscriptionState[]): Promise<string[]> {
  if (states.length === 0) return [];
  const turn = await Turn.take(store, 'updating');
  if (!(turn instanceof Turn)) return [];
  await using _turn = turn;
  for (const { name } of states) await removeState(store, name);
  return states.map(({ name }) => name);
}
