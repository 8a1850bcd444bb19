import { TrafficRecorder } from '../../fetch/traffic-recorder.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { TrafficLine, TrafficSource } from '../../store/traffic.ts';
import { readStatus, type SubscriptionStatus } from '../../subscription/status.ts';
import type { Subscription } from '../../subscription/subscription.ts';
import type { DaemonFacts } from '../facts.ts';
import { problemsOf, type Problem } from './health.ts';
import {
  addLine,
  DAY_MS,
  HOUR_MS,
  noTraffic,
  TrafficHistory,
  type RunningFetch,
  type TrafficSum,
} from './traffic-history.ts';

/** Time for which the states of subscriptions are used again: reading them looks at every NAR. */
const STATES_MS = 15_000;
/** Interval at which lines of other processes are read, and sent bytes are recorded. */
const LOOK_MS = 60_000;

/** Everything that the status page and the metrics show. */
export interface DaemonView {
  readonly at: Date;
  readonly facts: DaemonFacts;
  readonly subscriptions: readonly SubscriptionStatus[];
  readonly problems: readonly Problem[];
  readonly day: TrafficSum;
  readonly month: TrafficSum;
  /** The last 24 hours and the last 30 days, the oldest first. */
  readonly hours: readonly { readonly at: Date; readonly sum: TrafficSum }[];
  readonly days: readonly { readonly at: Date; readonly sum: TrafficSum }[];
  /** Bytes a second by sender. */
  readonly rates: Readonly<Record<TrafficSource, number>>;
  readonly running: readonly RunningFetch[];
  /** Sums of all processes of the store since this daemon has started. */
  readonly sinceStart: TrafficSum;
  readonly fallbacks: ReadonlyMap<string, number>;
}

export interface WatchOptions {
  readonly store: FileStore;
  readonly facts: () => DaemonFacts;
  readonly subscriptions: () => Promise<readonly Subscription[]>;
  readonly now?: () => Date;
}

/** Watches a daemon and the other processes of its store, for the pages of its HTTP port. */
export class Watch implements AsyncDisposable {
  /** Records what this daemon fetches and gives, beside the updates, which have records of their own. */
  readonly recorder: TrafficRecorder;
  /** Called with the seconds from the first byte to the last one of a fetch that has ended. */
  onFetch: ((seconds: number) => void) | undefined;
  readonly #options: WatchOptions;
  readonly #now: () => Date;
  readonly #history: TrafficHistory;
  readonly #timer: NodeJS.Timeout;
  readonly #sinceStart = noTraffic();
  readonly #fallbacks = new Map<string, number>();
  #recordedSent = 0;
  #states: { readonly atMs: number; readonly read: Promise<readonly SubscriptionStatus[]> } | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
    this.recorder = new TrafficRecorder(options.store);
    this.#history = new TrafficHistory(options.store, this.#now, (line) => this.#count(line));
    this.#timer = setInterval(() => {
      this.#recordSent();
      void this.#history.refresh();
    }, LOOK_MS).unref();
    void this.#history.refresh();
  }

  /** Gathers everything. @throws as `readStatus` does */
  async view(): Promise<DaemonView> {
    await this.#history.refresh();
    const subscriptions = await this.#statuses();
    const facts = this.#options.facts();
    const at = this.#now();
    const history = this.#history;
    return {
      at,
      facts,
      subscriptions,
      problems: problemsOf(facts, subscriptions, at),
      day: history.sumOf(DAY_MS),
      month: history.sumOf(30 * DAY_MS),
      hours: history.spans(HOUR_MS, 24),
      days: history.spans(DAY_MS, 30),
      rates: history.rates(),
      running: history.running(),
      sinceStart: this.#sinceStart,
      fallbacks: this.#fallbacks,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#recordSent();
    await this.recorder[Symbol.asyncDispose]();
  }

  async #statuses(): Promise<readonly SubscriptionStatus[]> {
    const nowMs = performance.now();
    if (this.#states === undefined || nowMs - this.#states.atMs > STATES_MS) {
      const read = this.#readStatuses();
      this.#states = { atMs: nowMs, read };
      read.catch(() => (this.#states = undefined));
    }
    return this.#states.read;
  }

  async #readStatuses(): Promise<readonly SubscriptionStatus[]> {
    const { store, subscriptions } = this.#options;
    const statuses: SubscriptionStatus[] = [];
    for (const one of await subscriptions()) statuses.push(await readStatus(one, store.dir, this.#now()));
    return statuses;
  }

  #recordSent(): void {
    const { bytesToMembers, bytesToClients } = this.#options.facts().served;
    const sent = bytesToMembers + bytesToClients;
    this.recorder.addSent(sent - this.#recordedSent);
    this.#recordedSent = sent;
  }

  #count(line: TrafficLine): void {
    addLine(this.#sinceStart, line);
    for (const [reason, count] of Object.entries(line.fallbacks ?? {}))
      this.#fallbacks.set(reason, (this.#fallbacks.get(reason) ?? 0) + count);
    if (line.tookMs !== undefined) this.onFetch?.(line.tookMs / 1_000);
  }
}
