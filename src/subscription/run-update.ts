import { firstFailure, NarswarmError, isNarswarmError } from '../errors.ts';
import { Workplace, type WorkplaceOptions } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { PublisherKey } from '../index/publisher-key.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { collectGarbage, type GcResult } from '../store/gc.ts';
import { Turn } from '../store/turn.ts';
import { goneFrom } from './forget.ts';
import { publishedContents } from './published.ts';
import { publishersOf } from './source.ts';
import { keptGenerations, listStates, removeState, rootsOf, writeState } from './state.ts';
import { storeRoots } from './store-roots.ts';
import type { Subscription } from './subscription.ts';
import { failedOf, updateSubscription, type UpdateContext, type Updated } from './update.ts';
import { buildPublication, type Built } from '../publish/build-publication.ts';

export interface RunUpdateOptions
  extends WorkplaceOptions, Omit<UpdateContext, 'workplace' | 'publishers' | 'now' | 'onWarning' | 'dryRun'> {
  readonly dryRun: boolean;
  /** Aborts at the end of the time window: what is being fetched stops, the rest of the run goes on. */
  readonly window?: AbortSignal | undefined;
  /** Those to bring up to date. */
  readonly subscriptions: readonly Subscription[];
  /** All that the configuration has. */
  readonly configured: readonly Subscription[];
  /** Whether what is known of subscriptions that are configured no more is forgotten. */
  readonly forgetOthers: boolean;
  /** Publishers to ask besides those that subscriptions name. */
  readonly publishers: readonly PublisherAddress[];
  /** This machine's own map, where it publishes one. */
  readonly publish?:
    | {
        readonly key: PublisherKey;
        readonly beforeSigning?: () => Promise<void>;
        readonly salt: string;
        readonly validForMs: number;
        readonly hints: readonly string[];
      }
    | undefined;
  readonly maxBytes: number | undefined;
  readonly keepGenerations: number;
  /** Whether to wait where another update is at work on this store. */
  readonly waits: boolean;
  /** Told of the process that has to end first. */
  readonly onWait?: () => void;
  readonly onBegin?: (subscription: Subscription) => void;
  readonly onUpdated?: (updated: Updated) => void;
  readonly onForgotten?: (name: string) => void;
  readonly onPublished?: (built: Built) => void;
  readonly onCollected?: (result: GcResult) => void;
}

/** What a run did. */
export interface UpdateRun {
  readonly updated: readonly Updated[];
  /** What the run failed of after the subscriptions: publishing. */
  readonly failure: NarswarmError | undefined;
}

/**
 * The nightly run: brings subscriptions up to date one after another, publishes this machine's map, and brings the store
 * down to its budget. What one subscription fails of is in its result, and the next one has its turn.
 *
 * @throws STORE_BUSY where another run is at work and nobody is to wait; STORE_FULL; STORE_UNWRITABLE for the store as
 *   a whole; the signal's reason
 */
export async function runUpdate(options: RunUpdateOptions): Promise<UpdateRun> {
  const { storeDir, signal, dryRun } = options;
  if (dryRun) {
    const { updated } = await updateAll(options);
    signal.throwIfAborted();
    return { updated, failure: undefined };
  }
  const store = await FileStore.open(storeDir, { create: true });
  await using _turn = await takeTurn(store, options);
  const { updated, ending } = await updateAll(options);
  signal.throwIfAborted();
  // Where one of them could not write, neither a map nor a collection gets further.
  if (updated.some(({ error }) => isNarswarmError(error, 'STORE_UNWRITABLE'))) return { updated, failure: undefined };
  // The disk is full, or the night is over: the budget is what helps then, too.
  const failure = isNarswarmError(ending, 'STORE_FULL') ? undefined : await publishOrTell(store, options);
  await collect(store, options);
  if (ending !== undefined) throw ending;
  return { updated, failure };
}

/** @returns what was done, and what ended it before all had their turn: a full disk, or the end of the night */
async function updateAll(options: RunUpdateOptions): Promise<{ updated: Updated[]; ending: unknown }> {
  const { window, onBegin, onUpdated } = options;
  const updated: Updated[] = [];
  await using workplace = await Workplace.open(options);
  // A map that one subscription names may help with all the others.
  const publishers = publishersOf(options.publishers, options.configured);
  if (publishers.length > 0) await workplace.network?.openDht(); // now, so that a port in use is said
  const context: UpdateContext = {
    ...options,
    signal: window === undefined ? options.signal : AbortSignal.any([options.signal, window]),
    workplace,
    publishers,
    now: () => new Date(),
  };
  for (const subscription of options.subscriptions) {
    onBegin?.(subscription);
    try {
      const result = await updateSubscription(subscription, context);
      updated.push(result);
      onUpdated?.(result);
      context.signal.throwIfAborted();
    } catch (caught) {
      const error = firstFailure(caught);
      if (context.signal.aborted || isNarswarmError(error, 'STORE_FULL')) return { updated, ending: error };
      if (!isNarswarmError(error, 'STORE_UNWRITABLE')) throw error;
      const result = failedOf(subscription, error); // the next one may lie in files that can be written
      updated.push(result);
      onUpdated?.(result);
    }
  }
  return { updated, ending: undefined };
}

async function takeTurn(store: FileStore, { waits, signal, window, onWait }: RunUpdateOptions): Promise<Turn> {
  const linked = window === undefined ? signal : AbortSignal.any([signal, window]);
  if (waits) return Turn.wait(store, 'updating', { signal: linked, onWait });
  const taken = await Turn.take(store, 'updating');
  if (taken instanceof Turn) return taken;
  throw new NarswarmError(
    'STORE_BUSY',
    `another narswarm update is at work on ${store.dir}: leave out --no-wait to run when it is done`,
    { facts: { path: store.dir, owner: taken } },
  );
}

/** @returns what it failed of; that there is nothing to publish yet is no failure */
async function publishOrTell(store: FileStore, options: RunUpdateOptions): Promise<NarswarmError | undefined> {
  try {
    await publish(store, options);
    return undefined;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!isNarswarmError(error)) throw error;
    if (error.code !== 'NOT_FOUND') return error;
    options.onWarning(error.message);
    return undefined;
  }
}

async function publish(store: FileStore, options: RunUpdateOptions): Promise<void> {
  const { publish: own, configured, keys, signal } = options;
  if (own === undefined) return;
  const { key, beforeSigning, salt, validForMs, hints } = own;
  const built = await buildPublication({
    store,
    key,
    beforeSigning,
    salt,
    validForMs,
    keys,
    signal,
    hints,
    keepsHints: true,
    contents: () => publishedContents(store, configured, keys),
    wayOut: configured.some((subscription) => subscription.publish)
      ? 'an update that completes one publishes it, or run narswarm add'
      : 'subscribe to something with --publish, or run narswarm add',
  });
  options.onPublished?.(built);
}

/** Removes what nothing keeps any more, and what the budget has no room for; then forgets what was kept no more. */
async function collect(store: FileStore, options: RunUpdateOptions): Promise<void> {
  const { maxBytes, keepGenerations, signal, onWarning, forgetOthers } = options;
  const states = await listStates(store);
  const others = forgetOthers ? goneFrom(states, options) : [];
  const dropped = new Set(others.map(({ name }) => name));
  const old = states.flatMap((state) => {
    const kept = new Set(dropped.has(state.name) ? [] : keptGenerations(state, keepGenerations));
    return state.generations.filter((generation) => !kept.has(generation));
  });
  try {
    const result = await collectGarbage({
      store,
      roots: () => storeRoots(store, keepGenerations, dropped),
      forgotten: rootsOf(old).map(storeHashOf),
      maxBytes,
      dryRun: false,
      now: new Date(),
      signal,
      onWarning,
    });
    options.onCollected?.(result);
    if (result.obstacles.length > 0) return; // nothing went: it is not forgotten before it has
  } catch (error) {
    if (!isNarswarmError(error, 'STORE_BUSY', 'STORE_CORRUPT')) throw error;
    onWarning(error.message); // the next run collects
    return;
  }
  for (const state of states) {
    if (dropped.has(state.name)) {
      await removeState(store, state.name);
      options.onForgotten?.(state.name);
      continue;
    }
    const generations = keptGenerations(state, keepGenerations);
    if (generations.length < state.generations.length) await writeState(store, { ...state, generations });
  }
}
