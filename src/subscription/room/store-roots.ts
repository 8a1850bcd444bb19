import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from '../../store/state-folder.ts';
import { NarswarmError } from '../../errors.ts';
import type { Root } from '../../store/collect/keep.ts';
import type { FileStore } from '../../store/file-store.ts';
import { listPins } from '../../store/pins.ts';
import type { KeepGenerations } from '../mirror.ts';
import { keptGenerations, listStates, rootsOf, type SubscriptionState } from '../state/state.ts';

/**
 * Returns the roots that a store keeps for its owner: the generations of the subscriptions, and pins.
 *
 * @param without names of subscriptions that no longer keep anything
 * @throws STORE_CORRUPT if a pin cannot be read; STORE_UNWRITABLE
 */
export async function storeRoots(
  store: FileStore,
  keepGenerations: KeepGenerations,
  without: ReadonlySet<string> = new Set(),
): Promise<Root[]> {
  const pins = (await listPins(store)).map(({ storePath }) => ({ storePath, keeper: undefined, isWhole: true }));
  const states = await listStates(store);
  await assertReadable(store, states);
  const subscribed = states.flatMap((state) => {
    if (without.has(state.name)) return [];
    // An older generation may have been collected when fewer were kept.
    const [newest] = state.generations;
    const whole = new Set(newest?.complete === true ? newest.roots : []);
    return rootsOf(keptGenerations(state, keepGenerations(state))).map((storePath) => ({
      storePath,
      keeper: state.name,
      isWhole: whole.has(storePath),
    }));
  });
  return [...pins, ...subscribed];
}

/** Refuses damaged states: the paths that they kept are unknown, so nothing may be removed. */
async function assertReadable(store: FileStore, states: readonly SubscriptionState[]): Promise<void> {
  const known = new Set(states.map(({ name }) => `${name}.json`));
  const folder = inState(store, 'subscriptions');
  const damaged = (await readdir(folder).catch(() => [])).find((name) => name.endsWith('.json') && !known.has(name));
  if (damaged === undefined) return;
  const path = join(folder, damaged);
  throw new NarswarmError(
    'STORE_CORRUPT',
    `${path} is damaged, so the paths that this subscription keeps are unknown: run narswarm update ${damaged.slice(0, -5)}, or remove the file`,
    { facts: { path } },
  );
}
