/**
 * Bytes that the processes of a store have received and sent: lines that are appended to a file a day in `narswarm/traffic/`. A
 * line covers at most some seconds. Only statistics: nothing else depends on them.
 */
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { makeFolderBelow } from '../disk/make-folder.ts';
import type { FileStore } from './file-store.ts';
import { inState } from './state-folder.ts';

/**
 * Senders of NARs: members and BitTorrent clients on the local network, binary caches there, members beyond it,
 * BitTorrent clients beyond it, and binary caches on the internet.
 */
export const TRAFFIC_SOURCES = ['neighbours', 'lanCaches', 'cohort', 'clients', 'caches'] as const;
export type TrafficSource = (typeof TRAFFIC_SOURCES)[number];

/** Bytes of NARs given: to peers (`sent`), over HTTP to Nix of this machine, and over HTTP to other machines. */
export const GIVEN_KINDS = ['sent', 'toNix', 'overHttp'] as const;
export type GivenKind = (typeof GIVEN_KINDS)[number];

const COUNT = v.pipe(v.number(), v.minValue(0));
const SOME = v.exactOptional(COUNT);
const FROM = v.object({ neighbours: SOME, lanCaches: SOME, cohort: SOME, clients: SOME, caches: SOME });

const LINE = v.object({
  /** End of the time that the line covers, ISO 8601. */
  at: v.pipe(v.string(), v.isoTimestamp()),
  /** Names the writer while it runs. */
  by: v.string(),
  /** Bytes of NARs by sender. */
  from: FROM,
  /** NARs that were completed. */
  nars: COUNT,
  /** Bytes of these that no cache would have sent: they came uncompressed from neighbours. Earlier versions did not count them. */
  surplus: v.exactOptional(COUNT),
  /** Bytes of NARs given to peers. */
  sent: COUNT,
  /** Bytes of NARs given over HTTP to Nix of this machine, and to other machines. Earlier versions did not count them. */
  toNix: v.exactOptional(COUNT),
  overHttp: v.exactOptional(COUNT),
  /** Failures for which another source or another attempt made up, by the kind of the warning. */
  fallbacks: v.optional(v.record(v.string(), COUNT)),
  /** The downloads that the writer has begun so far, and how much of them is here. */
  downloads: v.optional(v.object({ nars: COUNT, bytes: COUNT, doneNars: COUNT, doneBytes: COUNT })),
  /** Time from the first byte to the last one. Only in the last line of a writer. */
  tookMs: v.optional(COUNT),
});

export type TrafficLine = v.InferOutput<typeof LINE>;

export function nothingGiven(): Record<GivenKind, number> {
  return { sent: 0, toNix: 0, overHttp: 0 };
}

/** Name of the file of a day (UTC). */
export const DAY_FILE = /^\d{4}-\d\d-\d\d\.jsonl$/;

/** Reads a line. Undefined if it is empty or torn. */
export function parseTrafficLine(text: string): TrafficLine | undefined {
  if (text === '') return undefined;
  try {
    const { success, output } = v.safeParse(LINE, JSON.parse(text));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

/** Formats a line. It begins with a line break, so that one that a power failure has torn spoils no other. */
export function formatTrafficLine(line: TrafficLine): string {
  return `\n${JSON.stringify(line)}\n`;
}

/** Appends a line. Never rejects: a fetch must not fail for its statistics. */
export async function appendTraffic(store: Pick<FileStore, 'dir' | 'stateDir'>, line: TrafficLine): Promise<void> {
  try {
    const folder = trafficFolder(store);
    await makeFolderBelow(store.dir, folder);
    await appendFile(join(folder, `${line.at.slice(0, 10)}.jsonl`), formatTrafficLine(line));
  } catch {
    // a full or read-only disk, which the fetch reports
  }
}

/** Returns the folder of these files. */
export function trafficFolder(store: Pick<FileStore, 'stateDir'>): string {
  return inState(store, 'traffic');
}
