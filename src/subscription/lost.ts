import { stat } from 'node:fs/promises';
import { isNarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { storeHashOf, storePathFromBaseName } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { quarantinedAtMs } from '../store/quarantine.ts';
import type { Missing } from './missing.ts';
import { MAX_MISSING } from './state.ts';

/** Files looked at at a time. */
const CONCURRENCY = 32;
/** Paths that are looked at: a few seconds. What lies beyond is left to verify. */
const MAX_PATHS = 20_000;

const WAS_HERE = 'it was here, and is not any more: run narswarm verify --repair';

/** What a store has lost of closures that it held in full. */
export interface Lost {
  /** At most {@link MAX_MISSING} of `count`. */
  readonly missing: readonly Missing[];
  readonly count: number;
}

/**
 * Looks whether narinfos and NARs of some closures are there still; no file but narinfos is read.
 *
 * @param held what has to be there: each NAR, or those alone that were put into quarantine since a time, in milliseconds
 *   since 1970, as the target may have held the others
 * @throws STORE_UNWRITABLE where a narinfo may not be read
 */
export async function lostOf(
  store: FileStore,
  roots: readonly StorePath[],
  held: 'all' | { readonly exceptSinceMs: number },
): Promise<Lost> {
  const paths = [...roots];
  const known = new Set<StorePath>(roots);
  const missing: Missing[] = [];
  let count = 0;
  const look = async (path: StorePath): Promise<void> => {
    const info = await readOf(store, storeHashOf(path));
    const references = info === undefined || info === 'damaged' ? [] : info.references;
    for (const name of references) {
      const other = storePathFromBaseName(name, store.storeDir);
      if (known.size >= MAX_PATHS || known.has(other)) continue;
      known.add(other);
      paths.push(other);
    }
    const reason = await faultOf(store, info, held);
    if (reason === undefined) return;
    count++;
    if (missing.length < MAX_MISSING) missing.push({ path, reason });
  };
  for (let at = 0; at < paths.length;) {
    const next = paths.slice(at, at + CONCURRENCY);
    at += next.length;
    await Promise.all(next.map(look));
  }
  return { missing, count };
}

async function readOf(store: FileStore, storeHash: StoreHash): Promise<NarInfo | 'damaged' | undefined> {
  return store.readNarInfo(storeHash).catch((error: unknown) => {
    if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
    return 'damaged' as const;
  });
}

async function faultOf(
  store: FileStore,
  info: NarInfo | 'damaged' | undefined,
  held: Parameters<typeof lostOf>[2],
): Promise<string | undefined> {
  if (info === undefined) return WAS_HERE;
  if (info === 'damaged') return 'its narinfo is damaged: run narswarm verify --repair';
  const path = store.narPath(info);
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  if (isThere) return undefined;
  if (held === 'all') return WAS_HERE;
  return ((await quarantinedAtMs(store, path)) ?? -Infinity) >= held.exceptSinceMs ? WAS_HERE : undefined;
}
