import { isNarswarmError } from '../../errors.ts';
import type { Tell } from '../../fetch/events.ts';
import { narBytes } from '../../store/collect/kept-nars.ts';
import type { Root } from '../../store/collect/keep.ts';
import type { FileStore } from '../../store/file-store.ts';
import { collectGarbage, type Yielding } from '../../store/gc.ts';
import { mirrored } from '../mirror.ts';
import type { Subscription } from '../subscription.ts';
import type { UpdateContext } from '../update/update-context.ts';

/** Part of the budget that may be in flight while the store is full. */
export const IN_FLIGHT = 1 / 16;

export interface RoomKeeperOptions {
  readonly store: FileStore;
  readonly maxBytes: number;
  /** Returns the roots that the store keeps. */
  readonly roots: () => Promise<readonly Root[]>;
  /** Returns the subscriptions that give paths up. */
  readonly yielding: () => Promise<Yielding>;
  readonly signal: AbortSignal;
}

/**
 * Keeps a store within its budget during the fetch of a subscription that the budget does not limit. The fetch waits
 * for nothing: once its NARs may exceed the budget by one sixteenth, gc removes other paths beside it, each time one
 * sixteenth has arrived. It ends with the first collection that cannot meet the budget. The collection at the end of
 * the run reports the reason.
 */
export class RoomKeeper implements AsyncDisposable {
  readonly #options: RoomKeeperOptions;
  readonly #inFlightBytes: number;
  /** Bytes that may arrive before the store is measured. */
  #leftBytes: number;
  #hasEnded = false;
  #making: Promise<void> | undefined;

  constructor(options: RoomKeeperOptions) {
    this.#options = options;
    this.#inFlightBytes = options.maxBytes * IN_FLIGHT;
    this.#leftBytes = this.#inFlightBytes;
  }

  /** Counts the NARs that arrive. */
  readonly tell: Tell = (event) => {
    if (event.type !== 'nar-fetched') return;
    this.#leftBytes -= event.sizeBytes;
    if (this.#leftBytes >= 0 || this.#hasEnded || this.#making !== undefined) return;
    this.#making = this.#make().finally(() => (this.#making = undefined));
    this.#making.catch(() => undefined); // thrown at the end
  };

  /** Waits for a running collection. */
  async settled(): Promise<void> {
    await this.#making;
  }

  /** Stops: waits for a running collection, and begins no other. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    await this.settled();
  }

  async #make(): Promise<void> {
    const { store, maxBytes, roots, yielding, signal } = this.#options;
    const onWarning = (): void => undefined; // the collection at the end of the run warns
    this.#leftBytes = 0; // NARs that arrive from now on may not be measured
    try {
      let freeBytes = maxBytes - (await narBytes(store));
      if (freeBytes < 0) {
        const { kept } = await collectGarbage({
          store,
          roots,
          yielding: await yielding(),
          maxBytes,
          dryRun: false,
          now: new Date(),
          signal,
          onWarning,
        });
        freeBytes = maxBytes - kept.bytes;
        if (freeBytes < 0) this.#hasEnded = true;
      }
      this.#leftBytes += freeBytes + this.#inFlightBytes;
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      if (isNarswarmError(error, 'STORE_BUSY')) this.#leftBytes += this.#inFlightBytes;
      else this.#hasEnded = true;
    }
  }
}

/** Returns the keeper of a store with a budget while a subscription is updated. A mirror keeps to the budget itself. */
export function keeperFor(subscription: Subscription, context: UpdateContext): RoomKeeper | undefined {
  const { workplace, maxBytes, rootsBeside, yielding, dryRun, signal } = context;
  if (maxBytes === undefined || dryRun || mirrored(subscription) !== undefined) return undefined;
  return new RoomKeeper({ store: workplace.store, maxBytes, roots: () => rootsBeside(), yielding, signal });
}
