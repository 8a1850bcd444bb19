import { isNarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';
import { collectGarbage } from '../store/gc.ts';
import type { Warn } from '../warning.ts';
import { generationsToKeep } from './mirror.ts';
import { storeRoots } from './store-roots.ts';
import type { Subscription } from './subscription.ts';

export interface PruneOptions {
  /** Limit for the bytes of all NARs. */
  readonly maxBytes: number;
  readonly keepGenerations: number;
  readonly configured: readonly Subscription[];
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/**
 * Removes paths that nothing keeps until a store meets its budget. Mirrors give nothing up. If that is not possible now,
 * the next update does it.
 */
export async function pruneStore(store: FileStore, options: PruneOptions): Promise<void> {
  const { maxBytes, signal, onWarning } = options;
  const keepGenerations = generationsToKeep(options.keepGenerations, options);
  try {
    const roots = (): ReturnType<typeof storeRoots> => storeRoots(store, keepGenerations);
    await collectGarbage({ store, roots, maxBytes, dryRun: false, now: new Date(), signal, onWarning });
  } catch (error) {
    if (signal.aborted || isNarswarmError(error, 'STORE_BUSY')) return;
    if (!isNarswarmError(error)) throw error;
    onWarning({ kind: 'failed', error });
  }
}
