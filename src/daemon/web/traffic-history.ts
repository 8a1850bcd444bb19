import { open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileStore } from '../../store/file-store.ts';
import {
  DAY_FILE,
  formatTrafficLine,
  GIVEN_KINDS,
  nothingGiven,
  parseTrafficLine,
  TRAFFIC_SOURCES,
  trafficFolder,
  type GivenKind,
  type TrafficLine,
  type TrafficSource,
} from '../../store/traffic.ts';
import { replaceFile } from '../../disk/replace.ts';

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** Time for which bytes by the hour are kept. */
const KEPT_MS = 40 * DAY_MS;
/** Time over which rates are taken, and after which a silent fetch is not shown. */
const RECENT_MS = 10_000;
/** Limit on bytes read in one go. The rest is read the next time. */
const READ_BYTES = 8 * 1024 * 1024;

/** Bytes and NARs of some time. */
export interface TrafficSum {
  readonly from: Record<TrafficSource, number>;
  nars: number;
  /** See {@link TrafficLine}. */
  surplus: number;
  readonly given: Record<GivenKind, number>;
}

/** A fetch that is receiving now. */
export interface RunningFetch {
  readonly by: string;
  readonly downloads: NonNullable<TrafficLine['downloads']>;
}

/** Bytes that came over the local network. */
export function nearBytes({ from }: Pick<TrafficSum, 'from'>): number {
  return from.neighbours + from.lanCaches;
}

/** Bytes that the internet would have had to send otherwise. An uncompressed NAR counts as the file of a cache. */
export function savedBytes(sum: Pick<TrafficSum, 'from' | 'surplus'>): number {
  return Math.max(0, nearBytes(sum) - sum.surplus);
}

/** Bytes that came from beyond the local network. */
export function farBytes({ from }: Pick<TrafficSum, 'from'>): number {
  return from.cohort + from.clients + from.caches;
}

/** Sums up what all processes of a store have received and sent, by the hour. */
export class TrafficHistory {
  readonly #store: FileStore;
  readonly #now: () => Date;
  readonly #onLine: (line: TrafficLine) => void;
  readonly #hours = new Map<number, TrafficSum>();
  readonly #offsets = new Map<string, number>();
  #recent: TrafficLine[] = [];
  #reading: Promise<void> | undefined;
  #isFirst = true;
  #tidied = '';

  /** @param onLine called with each line that is written while this process runs */
  constructor(store: FileStore, now: () => Date, onLine: (line: TrafficLine) => void) {
    this.#store = store;
    this.#now = now;
    this.#onLine = onLine;
  }

  /** Reads new lines. Never rejects. */
  async refresh(): Promise<void> {
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    await this.#reading.catch(() => undefined); // statistics: the next time
  }

  /** Returns the sum of the hours that began within this time. */
  sumOf(withinMs: number): TrafficSum {
    const from = this.#now().getTime() - withinMs;
    const sum = noTraffic();
    for (const [hour, one] of this.#hours) if (hour >= from) addTo(sum, one);
    return sum;
  }

  /** Returns the sums of equal spans of time up to now, the oldest first. */
  spans(spanMs: number, count: number): { readonly at: Date; readonly sum: TrafficSum }[] {
    const end = Math.floor(this.#now().getTime() / spanMs) * spanMs;
    const spans = Array.from({ length: count }, (_, index) => ({
      at: new Date(end - (count - 1 - index) * spanMs),
      sum: noTraffic(),
    }));
    for (const [hour, one] of this.#hours) {
      const place = spans[count - 1 - (end - Math.floor(hour / spanMs) * spanMs) / spanMs];
      if (place !== undefined) addTo(place.sum, one);
    }
    return spans;
  }

  /** Returns bytes a second by sender, over the last seconds. */
  rates(): Record<TrafficSource, number> {
    const sum = noTraffic();
    for (const line of this.#lately()) addLine(sum, line);
    for (const source of TRAFFIC_SOURCES) sum.from[source] /= RECENT_MS / 1_000;
    return sum.from;
  }

  /** Returns the fetches that have received something in the last seconds. */
  running(): RunningFetch[] {
    const last = new Map<string, RunningFetch>();
    for (const { by, downloads, tookMs } of this.#lately())
      if (tookMs !== undefined || downloads === undefined) last.delete(by);
      else last.set(by, { by, downloads });
    return [...last.values()];
  }

  #lately(): TrafficLine[] {
    const from = this.#now().getTime() - RECENT_MS;
    this.#recent = this.#recent.filter(({ at }) => Date.parse(at) > from);
    return this.#recent;
  }

  async #read(): Promise<void> {
    const folder = trafficFolder(this.#store);
    const names = (await readdir(folder).catch(() => [])).filter((name) => DAY_FILE.test(name)).toSorted();
    for (const name of names)
      for (const line of await this.#newLines(join(folder, name), name)) {
        this.#add(line);
        if (this.#isFirst) continue;
        this.#recent.push(line);
        this.#onLine(line);
      }
    this.#isFirst = false;
    await this.#tidy(folder, names);
  }

  #add(line: TrafficLine): void {
    const now = this.#now().getTime();
    const hour = Math.floor(Date.parse(line.at) / HOUR_MS) * HOUR_MS;
    if (hour < now - KEPT_MS || hour > now + DAY_MS) return;
    const sum = this.#hours.get(hour) ?? noTraffic();
    this.#hours.set(hour, sum);
    addLine(sum, line);
  }

  async #newLines(path: string, name: string): Promise<TrafficLine[]> {
    const offset = this.#offsets.get(name) ?? 0;
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size <= offset) {
      this.#offsets.set(name, size); // written shorter by a daemon
      return [];
    }
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size - offset, READ_BYTES)), {
      position: offset,
    });
    const end = buffer.subarray(0, bytesRead).lastIndexOf('\n') + 1;
    this.#offsets.set(name, offset + end);
    return linesOf(buffer.toString('utf8', 0, end));
  }

  /** Once a day: forgets old hours, removes old files, and writes those before yesterday with one line an hour. */
  async #tidy(folder: string, names: readonly string[]): Promise<void> {
    const now = this.#now().getTime();
    const today = dayOf(now);
    if (this.#tidied === today) return;
    this.#tidied = today;
    for (const hour of this.#hours.keys()) if (hour < now - KEPT_MS) this.#hours.delete(hour);
    for (const name of names) {
      const path = join(folder, name);
      if (name < `${dayOf(now - KEPT_MS)}.jsonl`) {
        await rm(path, { force: true });
        this.#offsets.delete(name);
      } else if (name < `${dayOf(now - DAY_MS)}.jsonl`) await this.#shorten(path, name);
    }
  }

  async #shorten(path: string, name: string): Promise<void> {
    const lines = linesOf(await readFile(path, 'utf8'));
    const hours = Map.groupBy(lines, ({ at }) => `${at.slice(0, 13)}:00:00.000Z`);
    if (hours.size === lines.length) return;
    const text = Array.from(hours, ([at, of]) => {
      const sum = noTraffic();
      for (const line of of) addLine(sum, line);
      const { from, nars, surplus, given } = sum;
      return formatTrafficLine({ at, by: 'hour', from, nars, surplus, ...given });
    }).join('');
    await replaceFile(path, text);
    this.#offsets.set(name, Buffer.byteLength(text));
  }
}

export function noTraffic(): TrafficSum {
  const from = { neighbours: 0, lanCaches: 0, cohort: 0, clients: 0, caches: 0 };
  return { from, nars: 0, surplus: 0, given: nothingGiven() };
}

/** Adds a line to a sum. */
export function addLine(
  sum: TrafficSum,
  { from, nars, surplus = 0, sent, toNix = 0, overHttp = 0 }: TrafficLine,
): void {
  addTo(sum, { from: { ...noTraffic().from, ...from }, nars, surplus, given: { sent, toNix, overHttp } });
}

function addTo(sum: TrafficSum, { from, nars, surplus, given }: TrafficSum): void {
  for (const source of TRAFFIC_SOURCES) sum.from[source] += from[source];
  sum.nars += nars;
  sum.surplus += surplus;
  for (const kind of GIVEN_KINDS) sum.given[kind] += given[kind];
}

function linesOf(text: string): TrafficLine[] {
  return text.split('\n').flatMap((line) => parseTrafficLine(line) ?? []);
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
