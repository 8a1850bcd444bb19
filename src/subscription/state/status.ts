import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from '../../store/state-folder.ts';
import { indexDirOf } from '../../index/files/index-dir.ts';
import type { PublisherAddress } from '../../index/address.ts';
import { parseManifest } from '../../index/manifest.ts';
import { isErrorCode, isNarswarmError, NarswarmError } from '../../errors.ts';
import type { Failure } from '../../failure.ts';
import { FileStore } from '../../store/file-store.ts';
import { systemCode } from '../../disk/store-error.ts';
import { readReplicas, type Replicas } from '../../store/replicas.ts';
import { isAtWork } from '../../store/turn.ts';
import { listRoots, type KeptRoot } from '../room/gc-roots.ts';
import { lostOfSubscription, summaryOf, type Lost } from './lost.ts';
import { lackError, type Lack } from './missing.ts';
import { parseSource } from '../source/source.ts';
import { isDamaged, readState, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from '../subscription.ts';

/** The status of a subscription, without asking the network. */
export interface SubscriptionStatus {
  readonly subscription: Subscription;
  /** Undefined before the first run of this source. */
  readonly state: SubscriptionState | undefined;
  /** True if there is a state that cannot be read. */
  readonly isDamaged: boolean;
  /** True if an update is running on the store, of this subscription or of others. */
  readonly isUpdating: boolean;
  /** The last seen edition of the publisher's hash map, if the source is a publisher. */
  readonly map: KnownMap | undefined;
  /** The losses of the newest generation since it was complete. Undefined if it is not complete anyway. */
  readonly lost: Lost | undefined;
  /**
   * Since when the publisher has not confirmed the held hash map, ISO 8601. Set only if its last update found it
   * silent, and that was more than a day ago.
   */
  readonly silentSince: string | undefined;
  /** A summary. `stale`: it was complete and no longer is, or its hash map has expired, or its publisher is silent. */
  readonly health: 'complete' | 'incomplete' | 'stale' | 'never';
  /** The reason why it is not complete, with the code of its last update. Undefined if it is complete. */
  readonly failure: NarswarmError | undefined;
  /** The copies of the newest generation on other machines, as a daemon counted them in the last day. */
  readonly replicas: Replicas | undefined;
  /** The reason why there is no count. Only for a subscription that holds something. */
  readonly uncounted: Uncounted | undefined;
  /** The links that keep its paths in the Nix store, newest generation first. */
  readonly roots: readonly KeptRoot[];
  /** The missing paths, if they are the reason. */
  readonly lack: Lack | undefined;
}

/**
 * The reason why copies were not counted. `no-daemon`: only a daemon counts them. `pending`: it has not counted yet.
 * `not-shared`: part of the closure is not shared, so no other machine is asked about it.
 */
export type Uncounted = 'no-daemon' | 'pending' | 'not-shared';

interface KnownMap {
  readonly seq: number;
  readonly created: Date;
  readonly expires: Date;
  readonly isExpired: boolean;
  /** Folder with two manifests of different histories. Undefined if only one history was seen. */
  readonly proof: string | undefined;
}

/** Reads the status of a subscription from the state of a file store. A store that does not exist knows nothing. */
export async function readStatus(subscription: Subscription, storeDir: string, now: Date): Promise<SubscriptionStatus> {
  const isMade = await access(join(storeDir, 'nix-cache-info')).then(
    () => true,
    (error: unknown) => systemCode(error) !== 'ENOENT',
  );
  const store = isMade ? await FileStore.open(storeDir, { create: false }) : undefined;
  const found = store && (await readState(store, subscription.name));
  const state = found?.source === sourceKey(subscription) ? found : undefined;
  const source = parseSource(subscription.source, { file: subscription.file });
  const map = store && source.kind === 'publisher' ? await knownMap(store, source.address, now) : undefined;
  const lost = store && state && (await summaryOf(lostOfSubscription(store, subscription, state)));
  const known = {
    subscription,
    state,
    isDamaged: store !== undefined && found === undefined && (await isDamaged(store, subscription.name)),
    isUpdating: store !== undefined && (await isAtWork(store, 'updating')),
    map,
    lost,
    silentSince: state && silentSince(state, now),
    roots: store === undefined ? [] : await listRoots(store, subscription.name),
    ...(store && state ? await copiesOf(store, state, now) : { replicas: undefined, uncounted: undefined }),
  };
  const lack = lackOf(known);
  return { ...known, health: healthOf(known), failure: failureOf(known, lack), lack };
}

type Known = Omit<SubscriptionStatus, 'health' | 'failure' | 'lack'>;

/** Silence of a publisher that is worth reporting. After one night, the next run may still confirm the map. */
const SILENT_MS = 24 * 3_600_000;

function silentSince({ lastRun, completeAsOf }: SubscriptionState, now: Date): string | undefined {
  if (lastRun?.silence === undefined || completeAsOf === undefined) return undefined;
  return now.getTime() - Date.parse(completeAsOf) > SILENT_MS ? completeAsOf : undefined;
}

function healthOf({ state, map, lost, silentSince: silent }: Known): SubscriptionStatus['health'] {
  if (state?.lastRun === undefined) return 'never';
  const isWhole = lost === undefined || lost.count === 0;
  const isCurrent = map?.isExpired !== true && silent === undefined;
  if (state.lastRun.outcome === 'complete' && isCurrent && isWhole) return 'complete';
  return state.completeAsOf === undefined ? 'incomplete' : 'stale';
}

/** Returns the paths that the last run could not get, or that were lost since. */
function lackOf({ state, lost }: Known): Lack | undefined {
  const kept = state?.lastRun?.lack;
  if (kept !== undefined) {
    const { count, ...known } = kept;
    const first = 'reason' in known || 'loss' in known ? known : state?.missing.find(({ path }) => path === known.path);
    if (first !== undefined) return { first, count };
  }
  const [gone] = lost?.missing ?? [];
  return gone && { first: gone, count: lost?.count ?? 1 };
}

function failureOf(
  { state, isDamaged: isStateDamaged, map, silentSince: silent }: Known,
  lack: Lack | undefined,
): NarswarmError | undefined {
  const run = state?.lastRun;
  if (run === undefined && isStateDamaged) return new NarswarmError('STORE_CORRUPT', 'its state is damaged');
  if (run === undefined) return new NarswarmError('NOT_FOUND', 'never updated');
  if (run.outcome !== 'complete') {
    const { code, reason, facts = {} }: Failure = run.failure ?? { reason: run.outcome };
    const isKnown = code !== undefined && isErrorCode(code);
    return new NarswarmError(isKnown ? code : 'NAR_UNAVAILABLE', reason, { facts });
  }
  if (lack !== undefined) return lackError('STORE_CORRUPT', lack);
  if (map?.isExpired === true)
    return new NarswarmError('INDEX_EXPIRED', `its hash map expired at ${map.expires.toISOString()}`);
  if (silent === undefined) return undefined;
  return new NarswarmError('INDEX_UNREACHABLE', `its publisher has been silent since ${silent}`);
}

async function copiesOf(
  store: FileStore,
  state: SubscriptionState,
  now: Date,
): Promise<Pick<SubscriptionStatus, 'replicas' | 'uncounted'>> {
  const [newest] = state.generations;
  if (newest === undefined || newest.roots.length === 0) return { replicas: undefined, uncounted: undefined };
  const all = await readReplicas(store, now);
  const replicas = replicasOf(state, all);
  if (replicas !== undefined) return { replicas, uncounted: undefined };
  if (!(await isAtWork(store, 'serving'))) return { replicas, uncounted: 'no-daemon' };
  return { replicas, uncounted: all !== undefined && all.at > newest.at ? 'not-shared' : 'pending' };
}

/** Returns the counts for the roots of the newest generation. Undefined if they were not counted since. */
function replicasOf({ generations: [newest] }: SubscriptionState, all: Replicas | undefined): Replicas | undefined {
  const roots = all?.roots.filter(({ path }) => newest?.roots.includes(path) === true) ?? [];
  return all === undefined || roots.length === 0 ? undefined : { ...all, roots };
}

async function knownMap(store: FileStore, address: PublisherAddress, now: Date): Promise<KnownMap | undefined> {
  const dir = indexDirOf(inState(store, 'index'), address);
  const bytes = await dir.readManifest();
  if (bytes === undefined) return undefined;
  try {
    const { publicKey, salt } = address;
    const { seq, created, expires } = parseManifest(bytes, { publicKey, salt, now, allowExpired: true });
    return { seq, created, expires, isExpired: expires <= now, proof: await dir.proof() };
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    return undefined; // damaged: the next run fetches it again
  }
}
