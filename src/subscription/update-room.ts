import { isNarswarmError } from '../errors.ts';
import type { PrefetchResult, StoreRoom } from '../fetch/prefetch.ts';
import { narBytes } from '../store/collect/kept-nars.ts';
import type { Root } from '../store/collect/keep.ts';
import type { FileStore } from '../store/file-store.ts';
import { collectGarbage, type Yielding } from '../store/gc.ts';
import { untilNobody } from '../store/turn.ts';
import type { Warn } from '../warning.ts';

/** Part of the budget that may be in flight while the store is full. */
const IN_FLIGHT = 1 / 16;

export interface UpdateRoomOptions {
  readonly store: FileStore;
  readonly maxBytes: number;
  /** True to fetch everything even if the budget cannot be met. */
  readonly goesBeyond: boolean;
  /** Returns the roots that the store keeps, besides the paths of this update. */
  readonly roots: () => Promise<readonly Root[]>;
  /** Subscriptions that give paths up for this update. Default: none. */
  readonly yielding?: Yielding | undefined;
  /** Records what has arrived, and which generations are given up. Called before anything is removed. */
  readonly record: (held: PrefetchResult) => Promise<void>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/** The room of an update in a store with a budget. What arrives takes the place of what nothing keeps. */
export class UpdateRoom implements StoreRoom {
  readonly inFlightBytes: number;
  readonly goesBeyond: boolean;
  readonly #options: UpdateRoomOptions;

  constructor(options: UpdateRoomOptions) {
    this.#options = options;
    this.inFlightBytes = options.maxBytes * IN_FLIGHT;
    this.goesBeyond = options.goesBeyond;
  }

  readonly free = async (): Promise<number> => this.#options.maxBytes - (await narBytes(this.#options.store));

  readonly make = async (held: PrefetchResult): Promise<void> => {
    const { store, maxBytes, roots, yielding, record, signal, onWarning } = this.#options;
    await record(held);
    for (let isDone = false; !isDone;) {
      await untilNobody(store, 'collecting', { signal });
      try {
        await collectGarbage({ store, roots, yielding, maxBytes, dryRun: false, now: new Date(), signal, onWarning });
        isDone = true;
      } catch (error) {
        if (!isNarswarmError(error, 'STORE_BUSY')) return unlessCorrupt(error); // otherwise another one began just now
      }
    }
  };
}

/** Ignores damaged states and pins: the collection at the end of the run names them. */
export function unlessCorrupt(error: unknown): undefined {
  if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
  return undefined;
}
