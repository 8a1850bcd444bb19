/**
 * GC roots of imported subscriptions: links `narswarm/gcroots/<subscription>/generation-<number>/<name of a store path>`,
 * so that `nix-collect-garbage` takes nothing between an update and its use.
 */
import { readdir, readlink, rm, rmdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import { remove } from '../../disk/remove.ts';
import { isNarswarmError } from '../../errors.ts';
import { failureOf } from '../../failure.ts';
import type { StorePath } from '../../nix/brands.ts';
import { linkRoots, placeOfRoots } from '../../nix/roots/root-links.ts';
import type { StoreCallOptions } from '../../nix/programs/run-nix.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { inState } from '../../store/state-folder.ts';
import type { Note } from '../state/note.ts';
import type { Generation } from '../state/state.ts';
import { SUBSCRIPTION_NAME, type Subscription } from '../subscription.ts';

/** A link that keeps a path. */
export interface KeptRoot {
  readonly generation: number;
  readonly path: string;
  readonly link: string;
}

const GENERATION = /^generation-(\d{1,15})$/;

/** Makes the roots of one generation of an imported subscription. */
export class GenerationRoots {
  readonly #store: FileStore;
  readonly #subscription: Pick<Subscription, 'name' | 'to'>;
  readonly #made = new Set<StorePath>();
  #note: Note | undefined;

  constructor(store: FileStore, subscription: Pick<Subscription, 'name' | 'to'>) {
    this.#store = store;
    this.#subscription = subscription;
  }

  /** The reason why there are none. */
  get notes(): readonly Note[] {
    return this.#note === undefined ? [] : [this.#note];
  }

  /**
   * Makes roots before the paths are imported: Nix takes them into account as soon as they are valid. If Nix cannot, notes
   * the reason.
   *
   * @throws STORE_FULL, STORE_UNWRITABLE; the signal's reason
   */
  async keep(number: number, paths: readonly StorePath[], signal?: AbortSignal): Promise<void> {
    const more = paths.filter((path) => !this.#made.has(path));
    if (more.length === 0 || this.#note !== undefined) return;
    const { name, to } = this.#subscription;
    const options: StoreCallOptions = { store: to, signal };
    try {
      const place = await placeOfRoots(options);
      if (place === 'elsewhere') this.#note = { kind: 'remote-roots' };
      if (place !== 'here') return;
      const folder = join(folderOf(this.#store, name), `generation-${number}`);
      await makeFolderBelow(this.#store.dir, folder).catch(inFolder(folder));
      const links = new Map(more.map((path) => [join(resolve(folder), baseNameOf(path)), path]));
      await linkRoots(links, options).catch(inFolder(folder));
      for (const path of more) this.#made.add(path);
    } catch (error) {
      if (!isNarswarmError(error, 'NIX_FAILED', 'NIX_MISSING')) throw error;
      this.#note = { kind: 'no-roots', failure: failureOf(error) };
    }
  }
}

/** Returns the roots of a subscription, newest generation first. */
export async function listRoots(store: Pick<FileStore, 'stateDir'>, name: string): Promise<KeptRoot[]> {
  const folder = folderOf(store, name);
  const found: KeptRoot[] = [];
  for (const entry of await namesOf(folder)) {
    const number = numberOf(entry);
    if (number === undefined) continue;
    for (const file of await namesOf(join(folder, entry))) {
      const link = join(resolve(folder), entry, file);
      const path = await readlink(link).catch(() => undefined);
      if (path !== undefined && !file.endsWith('.tmp')) found.push({ generation: number, path, link });
    }
  }
  return found.toSorted((a, b) => b.generation - a.generation || a.path.localeCompare(b.path));
}

/** Returns the names of the subscriptions that have roots, also of those that have no state yet. */
export async function listRooted(store: Pick<FileStore, 'stateDir'>): Promise<string[]> {
  return (await namesOf(inState(store, 'gcroots'))).filter((name) => SUBSCRIPTION_NAME.test(name));
}

/**
 * Removes the roots of a subscription that none of the given generations needs. Leaves those of an incomplete one alone:
 * the next run continues it.
 *
 * @throws STORE_UNWRITABLE
 */
export async function pruneRoots(
  store: Pick<FileStore, 'stateDir'>,
  name: string,
  kept: readonly Generation[],
): Promise<void> {
  const folder = folderOf(store, name);
  for (const entry of await namesOf(folder)) {
    const generation = numberOf(entry);
    if (generation === undefined) continue; // somebody else's
    const same = kept.filter(({ number }) => number === generation); // a changed source begins with 1 again
    if (same.some(({ complete }) => !complete)) continue;
    const needed = new Set(same.flatMap(({ roots }) => roots.map(baseNameOf)));
    for (const file of await namesOf(join(folder, entry)))
      if (!needed.has(file)) await remove(join(folder, entry, file));
    await rmdir(join(folder, entry)).catch(() => undefined); // others are in it
  }
  await rmdir(folder).catch(() => undefined);
}

/** Removes all roots of a subscription. Returns their number. @throws STORE_UNWRITABLE */
export async function removeRoots(store: Pick<FileStore, 'stateDir'>, name: string): Promise<number> {
  const { length } = await listRoots(store, name);
  const folder = folderOf(store, name);
  await rm(folder, { recursive: true, force: true }).catch(inFolder(folder));
  return length;
}

function folderOf(store: Pick<FileStore, 'stateDir'>, name: string): string {
  return join(inState(store, 'gcroots'), name);
}

function numberOf(folder: string): number | undefined {
  const [, number] = GENERATION.exec(folder) ?? [];
  return number === undefined ? undefined : Number(number);
}

async function namesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return [];
    throw storeError(error, folder);
  });
}

function inFolder(folder: string): (error: unknown) => Promise<never> {
  return (error) => {
    throw systemCode(error) === undefined ? error : storeError(error, folder);
  };
}
