import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { FileStore } from './file-store.ts';
import { inState } from './state-folder.ts';
import { replaceFile } from '../disk/replace.ts';

/** The number of other machines that hold the closure of a path. */
export interface RootReplicas {
  readonly path: StorePath;
  readonly nars: number;
  /** Number of other machines that hold all of it. */
  readonly holders: number;
  /** The NARs that no other machine holds. */
  readonly sole: readonly SoleNar[];
}

/** A NAR that only this machine is known to hold. */
export interface SoleNar {
  /** Its file name in `nar/`. */
  readonly nar: string;
  readonly path: StorePath;
  readonly sizeBytes: number;
}

/** The copies of the store's NARs on other machines, as counted by a daemon. Other machines may leave at any time. */
export interface Replicas {
  /** Time of the count, ISO 8601. */
  readonly at: string;
  /** Number of other machines that answered. */
  readonly machines: number;
  readonly roots: readonly RootReplicas[];
  /** File names in `nar/` of all NARs of the store that no other machine holds, also outside these roots. */
  readonly sole: readonly string[];
  /** Number of the store's NARs that each other machine holds, by its host. */
  readonly held?: Readonly<Record<string, number>> | undefined;
}

const SCHEMA: v.GenericSchema<unknown, Replicas> = v.object({
  at: v.pipe(v.string(), v.isoTimestamp()),
  machines: v.number(),
  roots: v.array(
    v.object({
      path: v.custom<StorePath>(isStorePath),
      nars: v.number(),
      holders: v.number(),
      sole: v.array(v.object({ nar: v.string(), path: v.custom<StorePath>(isStorePath), sizeBytes: v.number() })),
    }),
  ),
  sole: v.array(v.string()),
  held: v.optional(v.record(v.string(), v.number())),
});

/** Age at which a count is no longer used. */
const FRESH_MS = 24 * 3_600_000;

/** Reads the last count of copies. Undefined if there is none from the last day. Never throws. */
export async function readReplicas(store: Pick<FileStore, 'stateDir'>, now: Date): Promise<Replicas | undefined> {
  try {
    const { success, output } = v.safeParse(SCHEMA, JSON.parse(await readFile(fileOf(store), 'utf8')));
    const isFresh = success && Math.abs(now.getTime() - Date.parse(output.at)) < FRESH_MS;
    return isFresh ? output : undefined;
  } catch {
    return undefined; // missing or damaged: the daemon writes it again
  }
}

/** Replaces the count of copies. @throws STORE_FULL, STORE_UNWRITABLE */
export async function writeReplicas(store: FileStore, replicas: Replicas): Promise<void> {
  await replaceFile(fileOf(store), `${JSON.stringify(replicas)}\n`);
}

/** Returns the names of NARs that no other machine holds. Empty if no other machine was asked. */
export function soleNars(replicas: Replicas | undefined): ReadonlySet<string> {
  if (replicas === undefined || replicas.machines === 0) return new Set();
  return new Set(replicas.sole);
}

function fileOf(store: Pick<FileStore, 'stateDir'>): string {
  return inState(store, 'replicas.json');
}

function isStorePath(value: unknown): boolean {
  try {
    return typeof value === 'string' && parseStorePath(value) === value;
  } catch {
    return false;
  }
}
