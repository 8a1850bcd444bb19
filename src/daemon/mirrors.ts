import { setTimeout as sleep } from 'node:timers/promises';
import { mapFolder, type PublisherAddress } from '../index/address.ts';
import { mirrored } from '../subscription/mirror.ts';
import type { Subscription } from '../subscription/subscription.ts';
import { asError, type Warn } from '../warning.ts';

/** Interval of checks whether there is something to fetch. */
const LOOK_MS = 1_000;
/** Pause before an incomplete mirror is updated again although its map has not changed. */
const RETRY_MS = 10 * 60_000;

export interface MirrorsOptions {
  /** Returns the subscriptions of the current configuration. */
  readonly subscriptions: () => Promise<readonly Subscription[]>;
  /** Updates subscriptions. @returns the names of the complete ones */
  readonly update: (subscriptions: readonly Subscription[], signal: AbortSignal) => Promise<ReadonlySet<string>>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/**
 * Keeps mirrors up to date: fetches the contents of a followed map as soon as the daemon holds an edition of it. Other
 * subscriptions wait for `update`, which runs at a time that the user chose.
 */
export class Mirrors implements AsyncDisposable {
  readonly #options: MirrorsOptions;
  readonly #stop = new AbortController();
  /** The newest edition of each followed map. */
  readonly #newest = new Map<string, number>();
  /** The edition last fetched for each subscription, by its name and source. */
  readonly #done = new Map<string, { readonly seq: number; readonly retryAtMs: number }>();
  #running: Promise<void>;

  constructor(options: MirrorsOptions) {
    this.#options = options;
    this.#running = this.#run(AbortSignal.any([options.signal, this.#stop.signal]));
  }

  /** Notes that the daemon holds an edition of a map. */
  onEdition(address: PublisherAddress, seq: number): void {
    this.#newest.set(mapFolder(address), seq);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const due = this.#due(await this.#options.subscriptions());
        if (due.length > 0) await this.#update(due, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#options.onWarning({ kind: 'failed', error: asError(error) });
      }
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #due(subscriptions: readonly Subscription[]): { subscription: Subscription; seq: number }[] {
    return subscriptions.flatMap((subscription) => {
      const address = mirrored(subscription);
      const seq = address === undefined ? undefined : this.#newest.get(mapFolder(address));
      if (seq === undefined) return [];
      const done = this.#done.get(keyOf(subscription));
      return done?.seq === seq && performance.now() < done.retryAtMs ? [] : [{ subscription, seq }];
    });
  }

  async #update(due: readonly { subscription: Subscription; seq: number }[], signal: AbortSignal): Promise<void> {
    let complete: ReadonlySet<string> = new Set();
    try {
      complete = await this.#options.update(
        due.map(({ subscription }) => subscription),
        signal,
      );
    } finally {
      for (const { subscription, seq } of due) {
        const retryAtMs = complete.has(subscription.name) ? Infinity : performance.now() + RETRY_MS;
        this.#done.set(keyOf(subscription), { seq, retryAtMs });
      }
    }
  }
}

function keyOf({ name, source }: Subscription): string {
  return `${name} ${source}`;
}
