import {
  appendTraffic,
  GIVEN_KINDS,
  nothingGiven,
  type GivenKind,
  type TrafficLine,
  type TrafficSource,
} from '../store/traffic.ts';
import type { FileStore } from '../store/file-store.ts';
import { randomUUID } from 'node:crypto';
import type { FetchEvent, Received } from './events.ts';

/** Interval between two lines of one process while bytes come. */
export const TRAFFIC_EVERY_MS = 2_000;
/** Warnings that say that a source failed and another one, or another attempt, makes up for it. */
const FALLBACKS = new Set([
  'asked-last',
  'damaged-file',
  'failed-torrent',
  'fetched-again',
  'kept-map',
  'lying-peer',
  'member-map',
  'no-cache-info',
  'other-description',
  'peers-again',
  'wrong-patch',
]);

/** Sums up the bytes of a process's fetches, and appends the sums to the store's records. */
export class TrafficRecorder implements AsyncDisposable {
  readonly #store: FileStore;
  readonly #by = randomUUID().slice(0, 8);
  readonly #timer: NodeJS.Timeout;
  readonly #downloads = { nars: 0, bytes: 0, doneNars: 0, doneBytes: 0 };
  #from = new Map<TrafficSource, number>();
  #fallbacks = new Map<string, number>();
  #nars = 0;
  #surplus = 0;
  #given = nothingGiven();
  #firstMs: number | undefined;
  #lastMs = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(store: FileStore) {
    this.#store = store;
    this.#timer = setInterval(() => void this.flush(), TRAFFIC_EVERY_MS).unref();
  }

  /** Counts an event. */
  readonly take = (event: FetchEvent): void => {
    if (event.type === 'nar-bytes') {
      const source = sourceOf(event);
      this.#from.set(source, (this.#from.get(source) ?? 0) + event.bytes);
      this.#downloads.doneBytes += event.bytes;
      this.#lastMs = performance.now();
      this.#firstMs ??= this.#lastMs;
    } else if (event.type === 'nar-fetched') {
      this.#nars++;
      this.#surplus += Math.max(0, event.sizeBytes - (event.cacheBytes ?? event.sizeBytes));
      this.#downloads.doneNars++;
    } else if (event.type === 'nar-kept') this.#downloads.doneBytes += event.bytes;
    else if (event.type === 'downloading') {
      this.#downloads.nars += event.nars;
      this.#downloads.bytes += event.bytes;
    } else if (event.type === 'warning' && FALLBACKS.has(event.warning.kind)) {
      const { kind } = event.warning;
      this.#fallbacks.set(kind, (this.#fallbacks.get(kind) ?? 0) + 1);
    }
  };

  /** Counts bytes that were given. */
  addGiven(kind: GivenKind, bytes: number): void {
    this.#given[kind] += bytes;
  }

  /** Writes the sums since the last time. Never rejects. */
  async flush(): Promise<void> {
    const hasGiven = GIVEN_KINDS.some((kind) => this.#given[kind] > 0);
    if (this.#from.size > 0 || this.#nars > 0 || hasGiven || this.#fallbacks.size > 0) this.#write();
    await this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if (this.#firstMs !== undefined) this.#write({ tookMs: Math.round(this.#lastMs - this.#firstMs) });
    await this.flush();
  }

  #write(last: Pick<TrafficLine, 'tookMs'> = {}): void {
    const line: TrafficLine = {
      at: new Date().toISOString(),
      by: this.#by,
      from: Object.fromEntries(this.#from),
      nars: this.#nars,
      ...(this.#surplus > 0 && { surplus: this.#surplus }),
      ...this.#given,
      ...(this.#fallbacks.size > 0 && { fallbacks: Object.fromEntries(this.#fallbacks) }),
      ...(this.#downloads.nars > 0 && { downloads: { ...this.#downloads } }),
      ...last,
    };
    this.#from = new Map();
    this.#fallbacks = new Map();
    this.#nars = 0;
    this.#surplus = 0;
    this.#given = nothingGiven();
    this.#writing = this.#writing.then(() => appendTraffic(this.#store, line));
  }
}

function sourceOf({ source, group, isNear }: Received): TrafficSource {
  if (!isNear) return group === 'neighbours' ? 'cohort' : group;
  return source === 'peers' ? 'neighbours' : 'lanCaches';
}
