import { isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { storeHashOf, storePathFromBaseName } from '../../nix/store-path.ts';
import { Catalogue } from '../../store/catalogue/catalogue.ts';
import type { FileStore } from '../../store/file-store.ts';
import { hashNars } from '../../store/hashing/hash-pool.ts';
import type { Damage } from '../../store/damage/damage.ts';
import { narStateOf } from '../../store/catalogue/nar-state.ts';
import type { LostFromStore, Missing } from './missing.ts';
import type { Loss } from '../../store/damage/fault.ts';
import { MAX_MISSING, readState, type SubscriptionState } from './state.ts';
import { sourceKey, type Subscription } from '../subscription.ts';

/** Files that are checked at the same time. */
const CONCURRENCY = 32;

/** A path that a store has lost, or whose NAR is wrong. */
export interface LostPath extends LostFromStore {
  readonly path: StorePath;
  readonly storeHash: StoreHash;
  /** The missing or wrong file, relative to the store. */
  readonly file: string;
}

/** The losses of a store, among closures that it held completely. */
export interface Lost {
  /** At most {@link MAX_MISSING} of `count`. */
  readonly missing: readonly Missing[];
  readonly count: number;
}

/**
 * Finds the paths that the newest generation of a subscription has lost since it was complete. Finds nothing while the
 * generation is incomplete. `status`, `update` and `verify` all use this.
 *
 * @throws as {@link lostPaths}
 */
export async function* lostOfSubscription(
  store: FileStore,
  subscription: Pick<Subscription, 'import' | 'publish'>,
  state: SubscriptionState,
  signal?: AbortSignal,
): AsyncGenerator<LostPath> {
  const { lastRun, generations } = state;
  const [newest] = generations;
  if (lastRun?.outcome !== 'complete' || newest === undefined) return;
  yield* lostPaths(store, newest.roots, { holdsAll: subscription.publish || !subscription.import, signal });
}

/** Yields losses of all complete subscriptions, as damage of the store. @throws as {@link lostPaths} */
export async function* lostOfAll(
  store: FileStore,
  subscriptions: readonly Subscription[],
  signal: AbortSignal,
): AsyncGenerator<Damage> {
  for (const subscription of subscriptions) {
    const state = await readState(store, subscription.name);
    if (state?.source !== sourceKey(subscription)) continue;
    for await (const { path, storeHash, file, loss } of lostOfSubscription(store, subscription, state, signal))
      yield { file, storeHash, storePath: path, fault: { kind: loss }, quarantined: undefined, isGone: true };
  }
}

/** Counts lost paths, and keeps as many as a state may name. */
export async function summaryOf(lost: AsyncIterable<LostPath>): Promise<Lost> {
  const missing: Missing[] = [];
  let count = 0;
  for await (const { path, loss } of lost) {
    count++;
    if (missing.length < MAX_MISSING) missing.push({ path, loss });
  }
  return { missing, count };
}

/**
 * Checks whether the narinfos and NARs of closures are still there and right. Reads a NAR only if it changed since its
 * last check.
 *
 * @param options.holdsAll true if every NAR must be there. Otherwise only those that were there once, since the target
 *   may have held the others
 * @throws STORE_UNWRITABLE if a file may not be read; the signal's reason
 */
export async function* lostPaths(
  store: FileStore,
  roots: readonly StorePath[],
  { holdsAll, signal }: { readonly holdsAll: boolean; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<LostPath> {
  const catalogue = await Catalogue.open(store);
  const paths = [...new Set(roots)];
  const known = new Set<StorePath>(roots);
  const changed: NarInfo[] = [];
  const look = async (path: StorePath): Promise<LostPath | undefined> => {
    const storeHash = storeHashOf(path);
    const lost = (file: string, loss: Loss): LostPath => ({ path, storeHash, file, loss });
    const info = await readOf(store, storeHash);
    if (info === undefined) return lost(`${storeHash}.narinfo`, 'gone');
    if (info === 'damaged' || info.storePath !== path) return lost(`${storeHash}.narinfo`, 'damaged-narinfo');
    for (const name of info.references) {
      const other = storePathFromBaseName(name, store.storeDir);
      if (known.has(other)) continue;
      known.add(other);
      paths.push(other);
    }
    const nar = await narStateOf(store, catalogue, info);
    if (nar === 'changed') changed.push(info);
    if (nar === 'wrong') return lost(info.url, 'wrong-nar');
    return nar === 'gone' || (nar === 'never' && holdsAll) ? lost(info.url, 'gone') : undefined;
  };
  for (let at = 0; at < paths.length;) {
    signal?.throwIfAborted();
    const next = paths.slice(at, at + CONCURRENCY);
    at += next.length;
    for (const found of await Promise.all(next.map(look))) if (found !== undefined) yield found;
  }
  yield* damagedOf(store, changed, signal);
}

/** Yields the changed NARs whose SHA-256 differs from their narinfo. */
async function* damagedOf(
  store: FileStore,
  infos: readonly NarInfo[],
  signal: AbortSignal | undefined,
): AsyncGenerator<LostPath> {
  const wrong = new Set(infos.filter(({ fileHash }) => fileHash !== undefined));
  const items = Array.from(wrong, (info) => ({ info, path: store.narPath(info), sizeBytes: info.fileSize ?? 0 }));
  for await (const { item, hashes } of hashNars(items, signal))
    if (hashes.fileHash === item.info.fileHash) wrong.delete(item.info);
  for (const { storePath, url } of wrong)
    yield {
      path: storePath,
      storeHash: storeHashOf(storePath),
      file: url,
      loss: 'damaged-nar',
    };
}

async function readOf(store: FileStore, storeHash: StoreHash): Promise<NarInfo | 'damaged' | undefined> {
  return store.readNarInfo(storeHash).catch((error: unknown) => {
    if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
    return 'damaged' as const;
  });
}
