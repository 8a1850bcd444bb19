import { isNarswarmError } from '../../errors.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { Catalogue } from '../../store/catalogue/catalogue.ts';
import type { Releasing } from '../../store/collect/release.ts';
import { collectGarbage, type LimitedPaths } from '../../store/gc.ts';
import type { Warn } from '../../warning.ts';
import { generationsToKeep } from '../mirror.ts';
import { limitOfSubstituted, substitutedOf } from './substituted.ts';
import { storeRoots } from './store-roots.ts';
import type { Subscription } from '../subscription.ts';

export interface PruneOptions {
  /** Limit for the bytes of all NARs. Undefined: only paths that nobody but Nix has asked for are limited. */
  readonly maxBytes: number | undefined;
  readonly catalogue: Catalogue;
  readonly keepGenerations: number;
  readonly configured: readonly Subscription[];
  /** NARs that may go since the Nix store has their paths. */
  readonly releasing: Releasing;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/**
 * Removes paths that nothing keeps until a store meets its budget. Takes nothing from mirrors. If that is not possible
 * now, the next update, or the next fetch for Nix, does it. Without a budget, removes only paths that nobody but Nix
 * has asked for, since the store would grow with each build for ever, and narinfos without a NAR that nothing needs.
 * NARs that the Nix store has are removed first; with `always`, in any case.
 */
export async function pruneStore(store: FileStore, options: PruneOptions): Promise<void> {
  const { maxBytes, catalogue, releasing, signal, onWarning } = options;
  const keepGenerations = generationsToKeep(options.keepGenerations, options);
  try {
    const limited = maxBytes === undefined ? await excessive(store, catalogue) : undefined;
    if (maxBytes === undefined && limited === undefined && releasing.when !== 'always') return;
    const roots = (): ReturnType<typeof storeRoots> => storeRoots(store, keepGenerations);
    const how = { dryRun: false, now: new Date(), signal, onWarning };
    await collectGarbage({ store, roots, maxBytes, limited, releasing, ...how });
  } catch (error) {
    if (signal.aborted || isNarswarmError(error, 'STORE_BUSY')) return;
    if (!isNarswarmError(error)) throw error;
    onWarning({ kind: 'failed', error });
  }
}

/** Returns the paths that nobody but Nix has asked for. Undefined as long as they are within their limit. */
async function excessive(store: FileStore, catalogue: Catalogue): Promise<LimitedPaths | undefined> {
  const substituted = await substitutedOf(catalogue);
  const maxBytes = await limitOfSubstituted(store, substituted);
  if (substituted.bytes <= maxBytes) return undefined;
  return { maxBytes, storeHashes: async () => (await substitutedOf(catalogue)).storeHashes };
}
