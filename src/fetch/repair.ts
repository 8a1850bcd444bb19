import type { StoreHash } from '../nix/brands.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import { FileStore, NARINFO_NAME } from '../store/file-store.ts';
import { LostNarInfos } from '../store/damage/lost-narinfos.ts';
import { mendNarInfo } from '../store/damage/mend-narinfo.ts';
import { damageOf, type Damage } from '../store/damage/damage.ts';
import { verifyStore } from '../store/verify.ts';
import { Progress } from './report.ts';
import { runFetch, tellBoth, type RunFetchOptions, type RunFetchResult } from './run-fetch.ts';

export interface RepairOptions extends Omit<
  RunFetchOptions,
  'roots' | 'copy' | 'dryRun' | 'onlyRoots' | 'keepGoing' | 'to'
> {
  /** True to decompress fetched NARs for their NarHash, too. */
  readonly deep: boolean;
}

/** One turn of a repair. */
export interface RepairRound {
  /** Repaired files. */
  readonly repaired: readonly Damage[];
  /** Missing narinfos that a repaired one refers to. The next turn repairs them. */
  readonly found: readonly Damage[];
  /** Payload bytes by sender: `host:port` of a peer, base URL of an upstream. */
  readonly sources: ReadonlyMap<string, { readonly bytes: number }>;
}

/**
 * Repairs damaged files, then missing narinfos that repaired ones refer to, until no more are found. Does not repair a
 * NAR that no narinfo names: nothing is lost with it.
 *
 * @throws NarswarmError if nothing can be fetched at all (STORE_FULL, LISTEN_FAILED); the signal's reason
 */
export async function* repairAll(damages: readonly Damage[], options: RepairOptions): AsyncGenerator<RepairRound> {
  const store = await FileStore.open(options.storeDir, { create: false });
  const lost = new LostNarInfos(store);
  for (const { storeHash } of damages) if (storeHash !== undefined) lost.note(storeHash);
  for (let wanted = damages.filter(isNeeded); wanted.length > 0;) {
    const { lost: hopeless, sources } = await repairStore(wanted, options);
    const repaired = wanted.filter(({ storeHash }) => storeHash !== undefined && !hopeless.includes(storeHash));
    const found: Damage[] = [];
    for (const { storeHash } of repaired) {
      const info = storeHash && (await store.readNarInfo(storeHash));
      if (info === undefined) continue;
      for await (const one of lost.referredToBy(info)) found.push(damageOf(one));
    }
    yield { repaired, found, sources };
    wanted = found;
  }
}

function isNeeded({ storeHash }: Damage): boolean {
  return storeHash !== undefined;
}

/**
 * Corrects narinfos with wrong unsigned parts from the store's own facts. Fetches the other damaged narinfos and NARs
 * again, without the rest of their closures, into a store where they are quarantined.
 *
 * @returns the store hashes that could not be repaired, and the senders of the bytes
 * @throws NarswarmError if nothing can be fetched at all (STORE_FULL, LISTEN_FAILED); the signal's reason
 */
async function repairStore(
  damages: readonly Damage[],
  options: RepairOptions,
): Promise<{ lost: StoreHash[] } & Pick<RepairRound, 'sources'>> {
  const { storeDir, keys, signal, deep, onWarning } = options;
  const wanted = [...new Set(damages.flatMap(({ storeHash }) => storeHash ?? []))];
  const progress = new Progress();
  const mended = await mendAll(damages, options);
  const roots = wanted.filter((storeHash) => !mended.has(storeHash));
  try {
    const { missing } = await fetchMissing({
      ...options,
      roots,
      copy: false,
      looksInto: 'all',
      onlyRoots: true,
      keepGoing: true,
      tell: tellBoth(progress, options),
    });
    for (const { path: _path, isNowhere: _nowhere, ...failure } of missing)
      onWarning({ kind: 'not-repaired', failure });
  } catch (error) {
    signal.throwIfAborted();
    if (!isNarswarmError(error, 'NAR_UNAVAILABLE', 'INDEX_UNREACHABLE', 'NIX_MISSING')) throw error;
    onWarning({ kind: 'failed', error });
  }
  const store = await FileStore.open(storeDir, { create: false });
  const lost: StoreHash[] = [];
  for (const storeHash of wanted) if (!(await isWhole(store, storeHash, { keys, signal, deep }))) lost.push(storeHash);
  return { lost, sources: progress.bySource };
}

/** Repairs files for which nothing has to be fetched. */
async function mendAll(
  damages: readonly Damage[],
  { storeDir, keys, signal }: RepairOptions,
): Promise<ReadonlySet<StoreHash>> {
  const store = await FileStore.open(storeDir, { create: false });
  const mended = new Set<StoreHash>();
  for (const { storeHash, file, quarantined } of damages) {
    if (storeHash === undefined || quarantined === undefined || !NARINFO_NAME.test(file)) continue;
    if (await mendNarInfo(quarantined, storeHash, { store, keys, signal })) mended.add(storeHash);
  }
  return mended;
}

function fetchMissing(options: RunFetchOptions): Promise<Pick<RunFetchResult, 'missing'>> {
  return options.roots.length === 0 ? Promise.resolve({ missing: [] }) : runFetch(options);
}

/** Returns true if the narinfo and the NAR are there and right. */
async function isWhole(
  store: FileStore,
  storeHash: StoreHash,
  options: { keys: RepairOptions['keys']; signal: AbortSignal; deep: boolean },
): Promise<boolean> {
  let isDamaged = false;
  try {
    const onDamage = (): void => {
      isDamaged = true;
    };
    const { nars } = await verifyStore({ ...options, store, hashes: [storeHash], onDamage });
    return nars === 1 && !isDamaged;
  } catch (error) {
    if (error instanceof NarswarmError && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}
