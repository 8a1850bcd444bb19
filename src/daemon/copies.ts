import { setTimeout as sleep } from 'node:timers/promises';
import type { NarOffer } from '../serve/nar-offer.ts';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { writeReplicas, type Replicas } from '../store/replicas.ts';
import { listStates } from '../subscription/state/state.ts';
import type { Network } from '../swarm/network.ts';
import { asError, type Warn } from '../warning.ts';
import type { Census } from './census.ts';
import { countReplicas } from './count-replicas.ts';

/** Pause between two counts while machines or NARs come and go. A count waits up to 15 s for answers. */
const SOON_MS = 5_000;
/** Longest time between two counts: news from members since the last one is counted then. */
const SELDOM_MS = 10 * 60_000;
/** Limit on the average traffic of counts. A count sends 8 bytes to each member for each NAR. */
const MEAN_BYTES_PER_SEC = 50_000;
const BYTES_PER_QUESTION = 8;

export interface CopiesContext {
  readonly store: FileStore;
  readonly catalogue: Pick<Catalogue, 'entries' | 'size'>;
  readonly network: Network;
  readonly census: Census;
  readonly offer: Pick<NarOffer, 'holds' | 'hasPassed' | 'lookAtAll' | 'on'>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/** Counts the copies of this machine's NARs at other machines, for `status`, `gc` and mirrors. */
export class Copies {
  readonly #context: CopiesContext;
  /** True if something has changed since the last count. */
  #isStale = true;
  /** The last count. Undefined before the first one. */
  last: Replicas | undefined;

  constructor(context: CopiesContext) {
    this.#context = context;
  }

  /**
   * Counts soon after machines or NARs come and go, and at least every ten minutes, until the signal aborts. Never
   * rejects.
   */
  async run(): Promise<void> {
    const { network, catalogue, offer, signal, onWarning } = this.#context;
    const noteChange = (): void => void (this.#isStale = true);
    for (const event of ['member', 'gone'] as const) network.members.on(event, noteChange);
    offer.on('news', noteChange);
    await sleep(SOON_MS, undefined, { signal }).catch(() => undefined);
    while (!signal.aborted) {
      this.#isStale = false;
      try {
        await this.#count();
      } catch (error) {
        if (signal.aborted) return;
        onWarning({ kind: 'failed', error: asError(error) });
      }
      const bytes = BYTES_PER_QUESTION * catalogue.size * network.members.open.size;
      await this.#rest(Math.max(SOON_MS, (bytes / MEAN_BYTES_PER_SEC) * 1_000));
    }
  }

  async #count(): Promise<void> {
    const { store, catalogue, census, offer, signal } = this.#context;
    const roots = (await listStates(store)).flatMap(({ generations: [newest] }) => newest?.roots ?? []);
    const replicas = await countReplicas([...new Set(roots)], {
      store,
      catalogue,
      census,
      offer,
      now: () => new Date(),
      signal,
    });
    this.last = replicas;
    await writeReplicas(store, replicas);
  }

  /** Waits at least `leastMs`, then until something changes or the last count is old. */
  async #rest(leastMs: number): Promise<void> {
    const { signal } = this.#context;
    const untilMs = performance.now() + SELDOM_MS;
    await sleep(leastMs, undefined, { signal }).catch(() => undefined);
    while (!signal.aborted && !this.#isStale && performance.now() < untilMs)
      await sleep(SOON_MS, undefined, { signal }).catch(() => undefined);
  }
}
