import type { NarswarmError } from '../../errors.ts';
import type { FileStore } from '../../store/file-store.ts';
import { nextState, type Outcome } from '../state/next-state.ts';
import { isDamaged, readState, writeState } from '../state/state.ts';
import type { Subscription } from '../subscription.ts';
import { failedOf, type Updated } from './update.ts';

interface PostponeContext {
  readonly store: FileStore;
  readonly configPath?: string | undefined;
  readonly now: Date;
  readonly onBegin?: ((subscription: Subscription) => void) | undefined;
  readonly onUpdated?: ((updated: Updated) => void) | undefined;
}

/** Records that subscriptions were not begun. @param error the reason @throws STORE_FULL, STORE_UNWRITABLE */
export async function postponeAll(
  subscriptions: readonly Subscription[],
  error: NarswarmError,
  context: PostponeContext,
): Promise<Updated[]> {
  const updated: Updated[] = [];
  for (const subscription of subscriptions) {
    context.onBegin?.(subscription);
    const result = await postpone(subscription, error, context);
    updated.push(result);
    context.onUpdated?.(result);
  }
  return updated;
}

/** Records that a subscription was not begun. It keeps its paths. */
async function postpone(
  subscription: Subscription,
  error: NarswarmError,
  { store, configPath, now }: PostponeContext,
): Promise<Updated> {
  const { name } = subscription;
  const run = { at: now.toISOString(), durationMs: 0, bytes: { store: 0, peers: 0, upstream: 0 }, nars: 0 };
  const outcome: Outcome = { error, parts: [], main: undefined, notes: [] };
  const state = nextState(subscription, await readState(store, name), outcome, run, configPath);
  if (!(await isDamaged(store, name))) await writeState(store, state);
  return { ...failedOf(subscription, error), state };
}
