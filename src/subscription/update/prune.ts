/** The end of a run: what nothing keeps any longer goes. */
import { isNarswarmError } from '../../errors.ts';
import { removeEndedLinks } from '../../fetch/import/out-link.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { collectGarbage } from '../../store/gc.ts';
import { goneFrom } from '../forget.ts';
import { generationsToKeep, mirrored } from '../mirror.ts';
import { listRooted, pruneRoots } from '../room/gc-roots.ts';
import { releasingOf } from '../room/releasing.ts';
import { storeRoots } from '../room/store-roots.ts';
import { partialsOfAll } from '../room/wanted-partials.ts';
import { isDamaged, keptGenerations, listStates, removeState, rootsOf, writeState } from '../state/state.ts';
import type { RunUpdateOptions } from './run-update.ts';
import type { Updated } from './update.ts';
import { yieldingMirrors } from './yielding.ts';

/**
 * Removes the GC roots of generations that are no longer kept, of subscriptions that are no longer imported, and of fetches
 * that were killed.
 */
export async function unlinkOlder(store: FileStore, options: RunUpdateOptions): Promise<void> {
  const keepGenerations = generationsToKeep(options.keepGenerations, options);
  await removeEndedLinks(store);
  const unimported = new Set(options.configured.flatMap(({ name, import: imports }) => (imports ? [] : name)));
  const states = await listStates(store);
  const known = new Set([...states, ...options.configured].map(({ name }) => name));
  // Killed at its first update, and then removed from the config file.
  for (const name of options.forgetOthers ? await listRooted(store) : [])
    if (!known.has(name) && !(await isDamaged(store, name))) await pruneRoots(store, name, []);
  for (const state of states) {
    const { name } = state;
    await pruneRoots(store, name, unimported.has(name) ? [] : keptGenerations(state, keepGenerations(state)));
  }
}

/**
 * Removes paths that nothing keeps and that exceed the budget. If that is not enough, mirrors give paths up, unless they
 * alone were updated. Then forgets removed subscriptions.
 */
export async function collect(store: FileStore, updated: readonly Updated[], options: RunUpdateOptions): Promise<void> {
  const { maxBytes, signal, onWarning, forgetOthers, configured, onYielded } = options;
  const keepGenerations = generationsToKeep(options.keepGenerations, options);
  const states = await listStates(store);
  const others = forgetOthers ? goneFrom(states, options) : [];
  const dropped = new Set(others.map(({ name }) => name));
  const old = states.flatMap((state) => {
    const kept = new Set(dropped.has(state.name) ? [] : keptGenerations(state, keepGenerations(state)));
    return state.generations.filter((generation) => !kept.has(generation));
  });
  const mayYield = options.subscriptions.some((subscription) => mirrored(subscription) === undefined);
  try {
    const result = await collectGarbage({
      store,
      roots: () => storeRoots(store, keepGenerations, dropped),
      yielding: mayYield ? await yieldingMirrors(store, configured, onYielded) : undefined,
      releasing: releasingOf(options.keepImported, configured, states),
      forgotten: rootsOf(old).map(storeHashOf),
      maxBytes,
      wantedPartials: partialsOfAll(updated, [...configured, ...states.filter(({ name }) => !dropped.has(name))]),
      dryRun: false,
      now: new Date(),
      signal,
      onWarning,
    });
    options.onCollected?.(result);
    if (result.obstacles.length > 0) return; // nothing was removed: their states are still needed
  } catch (error) {
    if (!isNarswarmError(error, 'STORE_BUSY', 'STORE_CORRUPT')) throw error;
    onWarning({ kind: 'failed', error }); // the next run collects
    return;
  }
  for (const state of await listStates(store)) {
    if (dropped.has(state.name)) {
      await removeState(store, state.name);
      options.onForgotten?.(state.name);
      continue;
    }
    const generations = keptGenerations(state, keepGenerations(state));
    if (generations.length < state.generations.length) await writeState(store, { ...state, generations });
  }
}
