import { access, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { inState } from '../../store/state-folder.ts';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import type { Failure } from '../../failure.ts';
import type { StorePath } from '../../nix/brands.ts';
import { withoutPasswords } from '../../redact.ts';
import type { FileStore } from '../../store/file-store.ts';
import { storeError, systemCode, inStore } from '../../disk/store-error.ts';
import { removeRoots } from '../room/gc-roots.ts';
import type { Missing } from './missing.ts';
import type { Note } from './note.ts';
import { STATE } from './state-schema.ts';
import { replaceFile } from '../../disk/replace.ts';
import { remove } from '../../disk/remove.ts';

/** The meaning of a subscription's source at one time. */
export interface Generation {
  /** 1 for the first generation. Increases whenever the source stands for other paths. */
  readonly number: number;
  /** When it was first seen, ISO 8601. */
  readonly at: string;
  /** Identifies the wanted paths: SHA-256 over the store hashes that the source stood for. */
  readonly wanted: string;
  /** The held part: paths whose closures are complete. gc keeps them. */
  readonly roots: readonly StorePath[];
  /** The path that followers of this machine get by the subscription's name, if it is one path and is held. */
  readonly main?: StorePath;
  /** True if all of it was held (or valid in the target) at the end of a run. */
  readonly complete: boolean;
}

/** The last run of a subscription. */
export interface LastRun {
  /** When it began, ISO 8601. */
  readonly at: string;
  readonly durationMs: number;
  /** `interrupted`: stopped by the user, at the end of the time window or at a metered line; the next run continues. */
  readonly outcome: 'complete' | 'incomplete' | 'failed' | 'interrupted';
  /** The reason why it is not complete. */
  readonly failure?: Failure;
  /** The missing paths, if they are the reason. States of 0.1 have none. */
  readonly lack?: KeptLack;
  /** The reason why the publisher did not confirm the hash map of the run, which used a kept generation. */
  readonly silence?: string;
  /** Bytes of NARs by source. */
  readonly bytes: { readonly store: number; readonly peers: number; readonly upstream: number };
  /** Number of downloaded NARs. */
  readonly nars: number;
}

/** The first missing path and the number of missing paths. States of earlier versions lack the reason for the first. */
export type KeptLack = (Missing | { readonly path: string }) & { readonly count: number };

/** The state of a subscription after its runs. */
export interface SubscriptionState {
  readonly name: string;
  /** The configured source. If it changes, generations start again with 1. */
  readonly source: string;
  /** The config file of the subscription. Another config file on the same store neither knows nor forgets it. */
  readonly config?: string;
  /** Generations, newest first. */
  readonly generations: readonly Generation[];
  readonly lastRun?: LastRun;
  /**
   * The latest time, ISO 8601, at which everything that the source stood for was held. The publisher, the list or the
   * evaluation last confirmed a complete run at that time.
   */
  readonly completeAsOf?: string;
  /** Missing paths of the newest generation, at most {@link MAX_MISSING} of {@link missingCount}. */
  readonly missing: readonly Missing[];
  readonly missingCount: number;
  /**
   * Notes about the last run that are not failures, such as inputs fetched instead of an output. States of earlier
   * versions have sentences.
   */
  readonly notes: readonly (Note | string)[];
}

/** Limit on missing paths that a state names. */
export const MAX_MISSING = 200;
/** Limit on generations in a state; gc keeps fewer. */
export const MAX_GENERATIONS = 32;

const FILE = /^(.+)\.json$/;

/**
 * Reads the state of a subscription. Undefined before its first run. A damaged file counts as absent: a run replaces
 * it.
 */
export async function readState(
  store: Pick<FileStore, 'stateDir'>,
  name: string,
): Promise<SubscriptionState | undefined> {
  const path = fileOf(store, name);
  try {
    const { success, output } = v.safeParse(STATE, JSON.parse(await readFile(path, 'utf8')));
    return success && output.name === name ? output : undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw storeError(error, path);
  }
}

/** Returns true if there is a state that cannot be read. */
export async function isDamaged(store: FileStore, name: string): Promise<boolean> {
  const isThere = await access(fileOf(store, name)).then(
    () => true,
    () => false,
  );
  return isThere && (await readState(store, name)) === undefined;
}

/** Reads the states of all subscriptions that ever ran, sorted by name. */
export async function listStates(store: Pick<FileStore, 'stateDir'>): Promise<SubscriptionState[]> {
  const names = await readdir(subscriptionsFolder(store)).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw storeError(error, subscriptionsFolder(store));
  });
  const states = await Promise.all(
    names
      .toSorted((a, b) => a.localeCompare(b))
      .flatMap((file) => FILE.exec(file)?.[1] ?? [])
      .map((name) => readState(store, name)),
  );
  return states.filter((state) => state !== undefined);
}

/** Replaces the state of a subscription, whole or not at all. @throws STORE_FULL, STORE_UNWRITABLE */
export async function writeState(store: FileStore, state: SubscriptionState): Promise<void> {
  await inStore(makeFolderBelow(store.dir, subscriptionsFolder(store)), subscriptionsFolder(store));
  const bounded = {
    ...state,
    generations: state.generations.slice(0, MAX_GENERATIONS),
    missing: state.missing.slice(0, MAX_MISSING),
  };
  await replaceFile(fileOf(store, state.name), withoutPasswords(`${JSON.stringify(bounded, null, 1)}\n`), {
    mode: 0o600,
  });
}

/** Forgets a subscription. The paths that only it kept may be collected from now on, also by Nix. */
export async function removeState(store: FileStore, name: string): Promise<void> {
  await remove(fileOf(store, name));
  await rm(join(inState(store, 'announced'), name), { force: true });
  await removeRoots(store, name);
}

/**
 * Returns the generations that a subscription keeps: the newest, complete or not, and the newest `keepGenerations`
 * complete ones before it.
 *
 * @param keepGenerations 0: only the newest, once it is complete
 */
export function keptGenerations({ generations }: SubscriptionState, keepGenerations: number): Generation[] {
  const [newest, ...older] = generations;
  if (newest === undefined) return [];
  const least = newest.complete ? 0 : 1; // the previous one is needed until the newest is complete
  return [newest, ...older.filter(({ complete }) => complete).slice(0, Math.max(least, keepGenerations))];
}

/** Returns the roots of generations, each once. */
export function rootsOf(generations: readonly Generation[]): StorePath[] {
  return [...new Set(generations.flatMap(({ roots }) => roots))];
}

/**
 * Returns the folder of the states. Each state is replaced by rename, so the folder's time of change shows any change.
 */
export function subscriptionsFolder(store: Pick<FileStore, 'stateDir'>): string {
  return inState(store, 'subscriptions');
}

function fileOf(store: Pick<FileStore, 'stateDir'>, name: string): string {
  return join(subscriptionsFolder(store), `${name}.json`);
}
