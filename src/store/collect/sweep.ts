import { basename, join } from 'node:path';
import { isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash } from '../../nix/store-path.ts';
import type { FileStore } from '../file-store.ts';
import { forgetServed } from '../catalogue/last-served.ts';
import { quarantineFolder } from '../quarantine.ts';
import { remove } from '../../disk/remove.ts';
import type { Eviction } from './evict.ts';
import { narNameOf, type StoreGraph } from './store-graph.ts';

/** Narinfos that are read ahead of their turn. */
const READ_AHEAD = 16;

/** A removed path, or one that would be removed. */
export interface RemovedPath {
  readonly storePath: StorePath;
  /** Freed bytes; 0 if another narinfo needs the NAR, or if it was not there. */
  readonly bytes: number;
  /** True if no other machine is known to hold the NAR that goes with it. */
  readonly isSole: boolean;
}

/**
 * Removes the chosen paths one by one: first the narinfo, then its NAR if no other narinfo names it. So whenever this
 * ends, no narinfo lacks a reference, and at most one NAR has no narinfo.
 *
 * @param onRemoved called with each path after its removal; with `dryRun`, with each path that would be removed
 * @throws STORE_UNWRITABLE; the signal's reason
 */
export async function sweep(
  store: FileStore,
  graph: StoreGraph,
  chosen: Eviction,
  options: {
    dryRun: boolean;
    /** Names of the NARs that no other machine holds. */
    sole: ReadonlySet<string>;
    signal: AbortSignal;
    onRemoved: (removed: RemovedPath) => void;
  },
): Promise<void> {
  const users = new Map<number, number>();
  for await (const { path, info } of infosOf(store, graph, chosen)) {
    options.signal.throwIfAborted();
    const nar = graph.narOf(path);
    if (!options.dryRun) await forget(store, parseStoreHash(graph.storeHash(path)));
    const left = (users.get(nar) ?? graph.narUsers(nar)) - 1;
    if (left > 0) users.set(nar, left);
    else users.delete(nar);
    const goes = left === 0 && chosen.nars[nar] === 1;
    if (goes && info !== undefined && !options.dryRun) {
      await remove(store.narPath(info));
      await forgetServed(store, narNameOf(info.url));
    }
    if (info === undefined) continue;
    const isSole = goes && options.sole.has(narNameOf(info.url));
    options.onRemoved({ storePath: info.storePath, bytes: goes ? graph.narBytes(nar) : 0, isSole });
  }
}

/** Removes a narinfo, and the damaged one that it replaced: verify should not miss a collected path. */
async function forget(store: FileStore, storeHash: StoreHash): Promise<void> {
  const path = store.narInfoPath(storeHash);
  await remove(join(quarantineFolder(store), basename(path)));
  await remove(path);
}

/** Yields the paths to remove with their narinfos, some of which are read ahead. */
async function* infosOf(
  store: FileStore,
  graph: StoreGraph,
  chosen: Eviction,
): AsyncGenerator<{ path: number; info: NarInfo | undefined }> {
  const ahead: Promise<{ path: number; info: NarInfo | undefined }>[] = [];
  const read = async (path: number): Promise<{ path: number; info: NarInfo | undefined }> => ({
    path,
    info: await infoOf(store, graph.storeHash(path)),
  });
  for (let turn = 0; turn < chosen.paths.length || ahead.length > 0; turn++) {
    if (turn < chosen.paths.length) {
      const reading = read(chosen.paths[turn] ?? 0);
      reading.catch(() => undefined); // thrown at its turn
      ahead.push(reading);
    }
    if (turn < READ_AHEAD - 1 && turn < chosen.paths.length) continue;
    const next = ahead.shift();
    if (next !== undefined) yield await next;
  }
}

/** Reads the narinfo of a path to remove: only it has the names of the path and of its NAR. */
async function infoOf(store: FileStore, storeHash: string): Promise<NarInfo | undefined> {
  try {
    return await store.readNarInfo(parseStoreHash(storeHash));
  } catch (error) {
    if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
    return undefined;
  }
}
