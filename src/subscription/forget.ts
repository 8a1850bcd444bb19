import type { FileStore } from '../store/file-store.ts';
import { Turn } from '../store/turn.ts';
import { removeState, type SubscriptionState } from './state/state.ts';
import type { Subscription } from './subscription.ts';

/** The present contents of a config file. */
export interface Configured {
  /** Absolute path of the config file, as in the states. */
  readonly configPath?: string | undefined;
  readonly configured: readonly Pick<Subscription, 'name'>[];
}

/** Returns the states of subscriptions that were removed from this config file. Ignores those of other config files. */
export function goneFrom(
  states: readonly SubscriptionState[],
  { configPath, configured }: Configured,
): SubscriptionState[] {
  const names = new Set(configured.map(({ name }) => name));
  return states.filter(({ name, config }) => config === configPath && !names.has(name));
}

/**
 * Forgets subscriptions, after the paths that only they kept were collected. Leaves this to the next update if one is
 * running.
 *
 * @returns the names of the forgotten subscriptions
 */
export async function forgetStates(store: FileStore, states: readonly SubscriptionState[]): Promise<string[]> {
  if (states.length === 0) return [];
  const turn = await Turn.take(store, 'updating');
  if (!(turn instanceof Turn)) return [];
  await using _turn = turn;
  for (const { name } of states) await removeState(store, name);
  return states.map(({ name }) => name);
}
