import { NarswarmError, isNarswarmError } from '../errors.ts';
import { Workplace, type WorkplaceOptions } from '../fetch/workplace.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { PublisherKey } from '../index/publisher-key.ts';
import type { StorePath } from '../nix/brands.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { collectGarbage, type GcResult } from '../store/gc.ts';
import { Turn } from '../store/turn.ts';
import { publishedContents } from '../subscription/published.ts';
import { publishersOf } from '../subscription/source.ts';
import { keptGenerations, listStates, removeState, rootsOf, writeState } from '../subscription/state.ts';
import { storeRoots } from '../subscription/store-roots.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { updateSubscription, type UpdateContext, type Updated } from '../subscription/update.ts';
import { buildPublication, type Built } from './build-publication.ts';

export interface RunUpdateOptions
  extends WorkplaceOptions, Omit<UpdateContext, 'workplace' | 'publishers' | 'now' | 'onWarning'> {
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
 * @throws STORE_BUSY where another run is at work and nobody is to wait; STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function runUpdate(options: RunUpdateOptions): Promise<UpdateRun> {
  const { storeDir, signal, dryRun } = options;
  const store = await FileStore.open(storeDir, { create: true });
  await using _turn = dryRun ? undefined : await takeTurn(store, options);
  const updated = await updateAll(options);
  if (dryRun) return { updated, failure: undefined };
  const forgotten = options.forgetOthers ? await forgetOthers(store, options) : [];
  const failure = await publish(store, options).catch((error: unknown) => {
    signal.throwIfAborted();
    if (!isNarswarmError(error)) throw error;
    if (error.code !== 'NOT_FOUND') return error;
    options.onWarning(error.message); // there is nothing to publish yet
    return undefined;
  });
  await collect(store, forgotten, options);
  return { updated, failure };
}

async function updateAll(options: RunUpdateOptions): Promise<Updated[]> {
  const updated: Updated[] = [];
  await using workplace = await Workplace.open(options);
  const context: UpdateContext = {
    ...options,
    workplace,
    // what one is subscribed to for may help with all else
    publishers: publishersOf(options.publishers, options.configured),
    now: () => new Date(),
  };
  for (const subscription of options.subscriptions) {
    options.onBegin?.(subscription);
    const result = await updateSubscription(subscription, context);
    updated.push(result);
    options.onUpdated?.(result);
    options.signal.throwIfAborted();
  }
  return updated;
}

async function takeTurn(store: FileStore, { waits, signal, onWait }: RunUpdateOptions): Promise<Turn> {
  if (waits) return Turn.wait(store, 'updating', { signal, onWait });
  const taken = await Turn.take(store, 'updating');
  if (taken instanceof Turn) return taken;
  throw new NarswarmError(
    'STORE_BUSY',
    `another narswarm update is at work on ${store.dir}: leave out --no-wait to run when it is done`,
    { facts: { path: store.dir, owner: taken } },
  );
}

/** Forgets the subscriptions that are configured no more. Gives what they kept. */
async function forgetOthers(store: FileStore, { configured, onForgotten }: RunUpdateOptions): Promise<StorePath[]> {
  const names = new Set(configured.map(({ name }) => name));
  const kept: StorePath[] = [];
  for (const { name, generations } of await listStates(store)) {
    if (names.has(name)) continue;
    kept.push(...rootsOf(generations));
    await removeState(store, name);
    onForgotten?.(name);
  }
  return kept;
}

async function publish(store: FileStore, options: RunUpdateOptions): Promise<undefined> {
  const { publish: own, configured, keys, signal } = options;
  if (own === undefined) return;
  const { key, salt, validForMs, hints } = own;
  const built = await buildPublication({
    store,
    key,
    salt,
    validForMs,
    keys,
    signal,
    hints,
    keepsHints: true,
    contents: () => publishedContents(store, configured, keys),
  });
  options.onPublished?.(built);
}

/** Removes what nothing keeps any more, and what the budget has no room for. */
async function collect(
  store: FileStore,
  forgotten: readonly StorePath[],
  { maxBytes, keepGenerations, signal, onWarning, onCollected }: RunUpdateOptions,
): Promise<void> {
  const states = await listStates(store);
  const old = states.flatMap((state) => {
    const kept = new Set(keptGenerations(state, keepGenerations));
    return state.generations.filter((generation) => !kept.has(generation));
  });
  try {
    const result = await collectGarbage({
      store,
      roots: () => storeRoots(store, keepGenerations),
      forgotten: [...forgotten, ...rootsOf(old)].map(storeHashOf),
      maxBytes,
      dryRun: false,
      now: new Date(),
      signal,
      onWarning,
    });
    onCollected?.(result);
  } catch (error) {
    if (!isNarswarmError(error, 'STORE_BUSY', 'STORE_CORRUPT')) throw error;
    onWarning(error.message); // whoever is at it collects for us, too
    return;
  }
  for (const state of states) {
    const generations = keptGenerations(state, keepGenerations);
    if (generations.length < state.generations.length) await writeState(store, { ...state, generations });
  }
}
