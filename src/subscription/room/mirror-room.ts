import { isNarswarmError } from '../../errors.ts';
import type { StoreRoom } from '../../fetch/prefetch-options.ts';
import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import { keptNars, narBytes } from '../../store/collect/kept-nars.ts';
import type { Root } from '../../store/collect/keep.ts';
import type { FileStore } from '../../store/file-store.ts';
import { collectGarbage } from '../../store/gc.ts';
import { untilNobody } from '../../store/turn.ts';
import type { Warn } from '../../warning.ts';
import { IN_FLIGHT } from './room-keeper.ts';

export interface MirrorRoomOptions {
  readonly store: FileStore;
  readonly maxBytes: number;
  /** Returns the roots that the store keeps for others. */
  readonly rootsBeside: () => Promise<readonly Root[]>;
  /** Records the paths that have arrived, and drops the editions before. Called before anything is removed. */
  readonly record: (held: PrefetchResult) => Promise<void>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/**
 * The room of a mirror in a store with a budget. A new edition replaces the ones before, and paths that nothing keeps;
 * the roots of others stay.
 */
export class MirrorRoom implements StoreRoom {
  readonly inFlightBytes: number;
  readonly #options: MirrorRoomOptions;

  constructor(options: MirrorRoomOptions) {
    this.#options = options;
    this.inFlightBytes = options.maxBytes * IN_FLIGHT;
  }

  /**
   * Returns the bytes of the NARs that the store keeps for others, by FileHash.
   *
   * @throws STORE_UNWRITABLE; the signal's reason
   */
  async kept(): Promise<ReadonlyMap<string, number>> {
    const { store, rootsBeside, signal } = this.#options;
    const roots = await rootsBeside().catch(unlessCorrupt);
    return keptNars(
      store,
      (roots ?? []).map(({ storePath }) => storePath),
      signal,
    );
  }

  readonly free = async (): Promise<number> => this.#options.maxBytes - (await narBytes(this.#options.store));

  readonly make = async (held: PrefetchResult): Promise<number> => {
    const { store, maxBytes, rootsBeside: roots, record, signal, onWarning } = this.#options;
    await record(held);
    for (;;) {
      await untilNobody(store, 'collecting', { signal });
      try {
        const now = new Date();
        const { kept } = await collectGarbage({ store, roots, maxBytes, dryRun: false, now, signal, onWarning });
        return maxBytes - kept.bytes;
      } catch (error) {
        if (isNarswarmError(error, 'STORE_BUSY')) continue; // another one began just now
        unlessCorrupt(error);
        return this.free();
      }
    }
  };
}

/** Ignores damaged states and pins: the collection at the end of the run names them. */
function unlessCorrupt(error: unknown): undefined {
  if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
  return undefined;
}
