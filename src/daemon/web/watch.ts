import { isNarswarmError } from '../../errors.ts';
import type { FetchEvent } from '../../fetch/events.ts';
import { TrafficRecorder } from '../../fetch/traffic-recorder.ts';
import { shownAddress } from '../../redact.ts';
import type { FileStore } from '../../store/file-store.ts';
import { GIVEN_KINDS, nothingGiven, type TrafficLine, type TrafficSource } from '../../store/traffic.ts';
import { readStatus, type SubscriptionStatus } from '../../subscription/state/status.ts';
import type { Subscription } from '../../subscription/subscription.ts';
import type { DaemonFacts } from '../facts.ts';
import { InFlight, type ArrivingNar, type NarInFlight } from './in-flight.ts';
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

/** Time for which the states of subscriptions are used again, unless an update begins or ends: reading looks at every NAR. */
const STATES_MS = 60_000;
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
  /** The NARs that are arriving for Nix, the largest first. Only for viewers on this machine. */
  readonly inFlight: readonly NarInFlight[];
  /** Sums of all processes of the store since this daemon has started. */
  readonly sinceStart: TrafficSum;
  readonly fallbacks: ReadonlyMap<string, number>;
}

export interface WatchOptions {
  readonly store: FileStore;
  readonly facts: () => DaemonFacts;
  readonly subscriptions: () => Promise<readonly Subscription[]>;
  /** Returns the NARs that are arriving for Nix. Default: none. */
  readonly arriving?: () => Iterable<ArrivingNar>;
  readonly now?: () => Date;
}

/** Watches a daemon and the other processes of its store, for the pages of its HTTP port. */
export class Watch implements AsyncDisposable {
  /** Records the traffic of this daemon. Updates have records of their own. */
  readonly recorder: TrafficRecorder;
  /** Called with the seconds from the first byte to the last one of a fetch that has ended. */
  onFetch: ((seconds: number) => void) | undefined;
  readonly #options: WatchOptions;
  readonly #now: () => Date;
  readonly #history: TrafficHistory;
  readonly #inFlight = new InFlight();
  readonly #timer: NodeJS.Timeout;
  readonly #sinceStart = noTraffic();
  readonly #fallbacks = new Map<string, number>();
  #recorded = nothingGiven();
  #states: { readonly atMs: number; readonly updating: string; readonly read: Promise<Statuses> } | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
    this.recorder = new TrafficRecorder(options.store);
    this.#history = new TrafficHistory(options.store, this.#now, (line) => this.#count(line));
    this.#timer = setInterval(() => {
      this.#recordGiven();
      void this.#history.refresh();
    }, LOOK_MS).unref();
    void this.#history.refresh();
  }

  /** Takes the events of the daemon's own fetches. */
  readonly take = (event: FetchEvent): void => {
    this.recorder.take(event);
    this.#inFlight.take(event);
  };

  /** Gathers everything. */
  async view(): Promise<DaemonView> {
    await this.#history.refresh();
    const facts = withoutSecrets(this.#options.facts());
    const { subscriptions, unreadable } = await this.#statuses(facts.updating.join(' '));
    const at = this.#now();
    const history = this.#history;
    return {
      at,
      facts,
      subscriptions,
      problems: [...unreadable, ...problemsOf(facts, subscriptions, at)],
      day: history.sumOf(DAY_MS),
      month: history.sumOf(30 * DAY_MS),
      hours: history.spans(HOUR_MS, 24),
      days: history.spans(DAY_MS, 30),
      rates: history.rates(),
      running: history.running(),
      inFlight: this.#inFlight.of(this.#options.arriving?.() ?? []),
      sinceStart: this.#sinceStart,
      fallbacks: this.#fallbacks,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#recordGiven();
    await this.recorder[Symbol.asyncDispose]();
  }

  /** @param updating names of the mirrors that are being updated */
  async #statuses(updating: string): Promise<Statuses> {
    const nowMs = performance.now();
    const isFresh = this.#states !== undefined && nowMs - this.#states.atMs <= STATES_MS;
    if (this.#states === undefined || !isFresh || this.#states.updating !== updating)
      this.#states = { atMs: nowMs, updating, read: this.#readStatuses() };
    return this.#states.read;
  }

  /** A store that cannot be read is a problem, and no reason to show nothing. */
  async #readStatuses(): Promise<Statuses> {
    const { store, subscriptions } = this.#options;
    const read: SubscriptionStatus[] = [];
    try {
      for (const one of await subscriptions()) read.push(await readStatus(one, store.dir, this.#now()));
      return { subscriptions: read, unreadable: [] };
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      return { subscriptions: read, unreadable: [{ kind: 'unreadable', code: error.code }] };
    }
  }

  #recordGiven(): void {
    const { bytesToMembers, bytesToClients, bytesToNix: toNix, bytesOverHttp: overHttp } = this.#options.facts().served;
    const given = { sent: bytesToMembers + bytesToClients, toNix, overHttp };
    for (const kind of GIVEN_KINDS) this.recorder.addGiven(kind, given[kind] - this.#recorded[kind]);
    this.#recorded = given;
  }

  #count(line: TrafficLine): void {
    addLine(this.#sinceStart, line);
    for (const [reason, count] of Object.entries(line.fallbacks ?? {}))
      this.#fallbacks.set(reason, (this.#fallbacks.get(reason) ?? 0) + count);
    if (line.tookMs !== undefined) this.onFetch?.(line.tookMs / 1_000);
  }
}

interface Statuses {
  readonly subscriptions: readonly SubscriptionStatus[];
  readonly unreadable: readonly Problem[];
}

/** Removes passwords from addresses: every user of this machine can read the pages. */
function withoutSecrets(facts: DaemonFacts): DaemonFacts {
  const { maps, published } = facts;
  return {
    ...facts,
    maps: maps.map(({ address, edition }) => ({ address: shownAddress(address), edition })),
    published: published && { ...published, address: shownAddress(published.address) },
  };
}
