import { firstFailure, NarswarmError, isNarswarmError } from '../../errors.ts';
import { Workplace, type WorkplaceOptions } from '../../fetch/workplace.ts';
import type { PublisherAddress } from '../../index/address.ts';
import type { PublisherIdentity } from '../../index/publisher-key.ts';
import { FileStore } from '../../store/file-store.ts';
import type { Root } from '../../store/collect/keep.ts';
import type { Yield } from '../../store/collect/yields.ts';
import type { GcResult } from '../../store/gc.ts';
import type { TellHashing } from '../../store/hashing/hashing.ts';
import { Turn } from '../../store/turn.ts';
import { goneFrom } from '../forget.ts';
import { pruneBuilds } from '../room/kept-builds.ts';
import { isMetered, meteredError, watchMetered } from './metered.ts';
import { generationsToKeep } from '../mirror.ts';
import { postponeAll } from './postpone.ts';
import type { KeptOfImported } from '../room/kept-of-imported.ts';
import { publishersOf } from '../source/source.ts';
import { listStates } from '../state/state.ts';
import { storeRoots } from '../room/store-roots.ts';
import type { Subscription } from '../subscription.ts';
import { publishersOfGone, unfollow } from '../unfollow.ts';
import { failedOf, updateSubscription, type Updated } from './update.ts';
import type { UpdateContext } from './update-context.ts';
import { collect, unlinkOlder } from './prune.ts';
import { publishOwn } from './publish-own.ts';
import { yieldingMirrors } from './yielding.ts';
import type { Built, DeltaMaking } from '../../publish/build-publication.ts';
import type { Recompression } from '../../publish/recompress-nars.ts';

export interface RunUpdateOptions
  extends
    WorkplaceOptions,
    Omit<UpdateContext, 'workplace' | 'publishers' | 'rootsBeside' | 'yielding' | 'now' | 'onWarning' | 'dryRun'> {
  readonly dryRun: boolean;
  /** Aborts at the end of the time window: then fetching stops, but the rest of the run continues. */
  readonly window?: AbortSignal | undefined;
  /** True to fetch nothing while the line to the internet is metered, and to stop fetching when it becomes metered. */
  readonly avoidsMetered?: boolean;
  /** Called with messages for developers. */
  readonly debug?: (text: string) => void;
  /** Subscriptions to bring up to date. */
  readonly subscriptions: readonly Subscription[];
  /** All subscriptions of the configuration. */
  readonly configured: readonly Subscription[];
  /** True to forget subscriptions that are no longer configured. */
  readonly forgetOthers: boolean;
  /** Publishers to ask besides those of the subscriptions. */
  readonly publishers: readonly PublisherAddress[];
  /** This machine's own hash map, if it publishes one. */
  readonly publish?:
    | {
        readonly key: PublisherIdentity;
        readonly salt: string;
        readonly validForMs: number;
        readonly hints: readonly string[];
        /** Set to compress NARs again that are not zstd files. Default: NARs stay as they are. */
        readonly recompression?: Recompression | undefined;
        /** Set to make patches. Default: none are made. */
        readonly deltas?: DeltaMaking | undefined;
      }
    | undefined;
  readonly maxBytes: number | undefined;
  readonly keepImported: KeptOfImported;
  readonly keepGenerations: number;
  /** True to wait if another update is running on this store. */
  readonly waits: boolean;
  /** Called with the process that must end first. */
  readonly onWait?: () => void;
  readonly onBegin?: (subscription: Subscription) => void;
  readonly onUpdated?: (updated: Updated) => void;
  readonly onForgotten?: (name: string) => void;
  /** Called when a mirror gives paths up for other subscriptions. */
  readonly onYielded?: (given: Yield) => void;
  readonly onPublished?: (built: Built) => void;
  /** Called with the NARs to read for the hash map, and with each that was read. */
  readonly tellHashing?: TellHashing;
  readonly onCollected?: (result: GcResult) => void;
}

/** The result of a run. */
export interface UpdateRun {
  readonly updated: readonly Updated[];
  /** The failure of publishing the hash map, which follows the subscriptions. */
  readonly failure: NarswarmError | undefined;
}

/**
 * Runs the nightly update. Updates subscriptions one after another, publishes this machine's hash map, and prunes the
 * store to its budget. If one subscription fails, its result has the failure, and the next one follows.
 *
 * @throws STORE_BUSY if another run is active and this one may not wait; STORE_FULL; STORE_UNWRITABLE for the store as
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
  if (options.forgetOthers) await unfollowGone(store, options);
  const { updated, ending } = await updateUnlessMetered(store, options);
  signal.throwIfAborted();
  // If a subscription could not write, then publishing and collecting could not either.
  if (updated.some(({ error }) => isNarswarmError(error, 'STORE_UNWRITABLE'))) return { updated, failure: undefined };
  // The disk is full, or the night is over: collecting helps in both cases.
  const failure = isNarswarmError(ending, 'STORE_FULL') ? undefined : await publishOwn(store, options);
  await unlinkOlder(store, options);
  await pruneBuilds(store, await listStates(store), new Date());
  await collect(store, updated, options);
  if (ending !== undefined) throw ending;
  return { updated, failure };
}

/** Stops sharing NARs because of hash maps that no subscription follows. */
async function unfollowGone(store: FileStore, options: RunUpdateOptions): Promise<void> {
  const gone = publishersOfGone(goneFrom(await listStates(store), options));
  await unfollow(store, gone, publishersOf(options.publishers, options.configured));
}

/** The results of the subscriptions, and the failure that ended the run early: a full disk, or the end of the window. */
interface UpdatedAll {
  readonly updated: readonly Updated[];
  readonly ending: unknown;
}

/** Updates the subscriptions. If a metered line is avoided, the window ends when the line becomes metered. */
async function updateUnlessMetered(store: FileStore, options: RunUpdateOptions): Promise<UpdatedAll> {
  const { avoidsMetered, signal, window, debug = () => {} } = options;
  if (avoidsMetered !== true) return updateAll(options);
  const metered = await isMetered(signal, debug);
  if (metered === undefined) return updateAll(options); // nobody would tell later
  if (metered) {
    const { subscriptions, configPath, onBegin, onUpdated } = options;
    const means = { store, configPath, now: new Date(), onBegin, onUpdated };
    return { updated: await postponeAll(subscriptions, meteredError(), means), ending: undefined };
  }
  await using watch = watchMetered();
  return await updateAll({
    ...options,
    window: window === undefined ? watch.signal : AbortSignal.any([window, watch.signal]),
  });
}

async function updateAll(options: RunUpdateOptions): Promise<UpdatedAll> {
  const { window, onBegin, onUpdated } = options;
  const updated: Updated[] = [];
  await using workplace = await Workplace.open({ ...options, givesWay: true });
  // A hash map that one subscription names may help all others.
  const publishers = publishersOf(options.publishers, options.configured);
  if (publishers.length > 0) await workplace.network?.openDht(); // opened now, so that a port in use is reported
  const { upstreams, trustedPublicKeys, publisherTimeoutMs, peerTimeoutMs, dryRun, configPath, maxBytes, rankFiles } =
    options;
  const { onWarning, tell } = options;
  const context: UpdateContext = {
    upstreams,
    trustedPublicKeys,
    require: options.require,
    keepDifferent: options.keepDifferent,
    publisherTimeoutMs,
    peerTimeoutMs,
    dryRun,
    configPath,
    maxBytes,
    rankFiles,
    rootsBeside: (name) => rootsBeside(name, workplace.store, options),
    yielding: () => yieldingMirrors(workplace.store, options.configured, options.onYielded),
    onWarning,
    tell,
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
      const result = failedOf(subscription, error); // files of the next subscription may be writable
      updated.push(result);
      onUpdated?.(result);
    }
  }
  return { updated, ending: undefined };
}

/** Returns the roots to keep, for everything except the subscription of that name. @throws as {@link storeRoots} */
async function rootsBeside(
  name: string | undefined,
  store: FileStore,
  options: RunUpdateOptions,
): Promise<readonly Root[]> {
  const gone = options.forgetOthers ? goneFrom(await listStates(store), options) : [];
  return storeRoots(
    store,
    generationsToKeep(options.keepGenerations, options),
    new Set([...gone.map((state) => state.name), ...(name === undefined ? [] : [name])]),
  );
}

async function takeTurn(store: FileStore, { waits, signal, window, onWait }: RunUpdateOptions): Promise<Turn> {
  const linked = window === undefined ? signal : AbortSignal.any([signal, window]);
  if (waits) return Turn.wait(store, 'updating', { signal: linked, onWait });
  const taken = await Turn.take(store, 'updating');
  if (taken instanceof Turn) return taken;
  throw new NarswarmError(
    'STORE_BUSY',
    `another narswarm update is running on ${store.dir}: leave out --no-wait to run after it`,
    { facts: { path: store.dir, owner: taken } },
  );
}
