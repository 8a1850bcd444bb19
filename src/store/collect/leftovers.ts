import { rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { inState } from '../state-folder.ts';
import { SESSION_KINDS } from '../claims.ts';
import { Catalogue } from '../catalogue/catalogue.ts';
import type { CatalogueEntry } from '../catalogue/catalogue-entry.ts';
import { FileStore, NARINFO_NAME } from '../file-store.ts';
import { BEING_SERVED_MS, forgetServed, readLastServed } from '../catalogue/last-served.ts';
import { namesIn } from '../../disk/names-in.ts';
import { stateOfOwner } from '../../disk/owner.ts';
import { PatchList } from '../patch-list.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { quarantineFolder } from '../quarantine.ts';
import { remove } from '../../disk/remove.ts';
import type { Kept } from './keep.ts';
import { narNameOf, PRESENT, type StoreGraph } from './store-graph.ts';

const DAY_MS = 86_400_000;
/**
 * Age of partial files, and of NARs that never had a narinfo. An update that is interrupted every night continues from
 * them.
 */
const KEEP_WORK_MS = 7 * DAY_MS;
/** Age of temporary files. They live for a moment; after a day their process is gone or will never rename them. */
const KEEP_TEMPORARY_MS = DAY_MS;
/** Time for which a patch is kept that is neither used nor served. Followers that are later fetch NARs whole. */
const KEEP_PATCH_MS = 30 * DAY_MS;
const KEEP_QUARANTINE_MS = 30 * DAY_MS;
const TEMPORARY = /\.[0-9a-f]{8}\.tmp$/;

/** Files that nothing needs, and their size. */
export interface Leftovers {
  readonly files: number;
  readonly bytes: number;
  /** The part of `bytes` in `nar/`, to which the budget applies. */
  readonly narBytes: number;
}

/**
 * Removes leftovers: NARs without a narinfo, patches whose path is gone or that nobody wanted for 30 days, partial files of ended processes, temporary files, and old files in
 * quarantine.
 *
 * @param onRemoved called with each file after its removal; with `dryRun`, with each file that would be removed
 * @throws STORE_UNWRITABLE; the signal's reason
 */
export async function removeLeftovers(
  store: FileStore,
  graph: StoreGraph,
  kept: Kept,
  options: {
    dryRun: boolean;
    now: Date;
    signal: AbortSignal;
    onRemoved: (file: { path: string; bytes: number }) => void;
  },
): Promise<Leftovers> {
  const { now, dryRun, signal } = options;
  const total = { files: 0, bytes: 0, narBytes: 0 };
  const drop = async (path: string, bytes: number): Promise<void> => {
    signal.throwIfAborted();
    if (!dryRun) await remove(path);
    total.files++;
    total.bytes += bytes;
    options.onRemoved({ path, bytes });
  };
  const dropOlder = async (folder: string, ageMs: number, fits = (_name: string) => true): Promise<void> => {
    for await (const name of namesIn(folder)) {
      if (!fits(name)) continue;
      const found = await stat(join(folder, name)).catch(() => undefined);
      const isOld = found?.isFile() === true && now.getTime() - Math.max(found.mtimeMs, found.ctimeMs) > ageMs;
      if (isOld) await drop(join(folder, name), found.size);
    }
  };

  const nars = join(store.dir, 'nar');
  let committed: Promise<ReadonlyMap<string, CatalogueEntry>> | undefined;
  /** Returns true if the NAR had a narinfo: a collector was killed after it had removed that. */
  const isHalfCollected = async (name: string): Promise<boolean> => {
    const known = (await (committed ??= committedNars(store))).get(name);
    if (known === undefined) return false;
    const found = await store.statNar({ ...known, url: `nar/${name}` });
    return found?.sizeBytes === known.sizeBytes && found.mtimeMs === known.mtimeMs;
  };
  const patches = patchedPaths(store);
  const isKeptPatch = (storeHashes: readonly string[], nar: number): boolean =>
    now.getTime() - graph.narUsedAtMs(nar) < KEEP_PATCH_MS &&
    storeHashes.some((hash) => graph.state(graph.knownNumber(hash)) === PRESENT);
  for await (const name of namesIn(nars)) {
    const nar = graph.narNumberOf(name);
    if (nar === -1 || graph.narUsers(nar) > 0 || kept.nars[nar] === 1 || graph.narBytes(nar) < 0) continue;
    const patched = patches.get(name);
    if (patched !== undefined && isKeptPatch(patched, nar)) continue;
    if (graph.damagedCount > 0 || now.getTime() - graph.servedAtMs(nar) < BEING_SERVED_MS) continue;
    const isOld = now.getTime() - graph.narChangedAtMs(nar) > KEEP_WORK_MS;
    if (patched === undefined && !isOld && !(await isHalfCollected(name))) continue;
    await drop(join(nars, name), graph.narBytes(nar));
    total.narBytes += graph.narBytes(nar);
  }
  for (const kind of SESSION_KINDS) {
    const parent = inState(store, kind);
    for await (const owner of namesIn(parent)) {
      if ((await stateOfOwner(owner)) !== 'gone') continue;
      if (kind === 'import' || kind === 'mount') {
        if (!dryRun) await rm(join(parent, owner), { recursive: true, force: true }); // nobody continues these
        continue;
      }
      await dropOlder(join(parent, owner), KEEP_WORK_MS);
      if (!dryRun) await rmdir(join(parent, owner)).catch(() => undefined); // younger files are still in it
    }
  }
  for (const folder of [store.dir, store.stateDir, inState(store, 'subscriptions')])
    await dropOlder(folder, KEEP_TEMPORARY_MS, (name) => TEMPORARY.test(name));
  await dropOlder(quarantineFolder(store), KEEP_QUARANTINE_MS);
  await dropOlder(quarantineFolder(store), KEEP_WORK_MS, (name) => isUnwanted(graph, name));
  if (!dryRun) {
    for await (const { name } of readLastServed(store)) {
      const nar = graph.narNumberOf(name);
      if (nar === -1 || (graph.narBytes(nar) < 0 && graph.narUsers(nar) === 0)) await forgetServed(store, name);
    }
  }
  return total;
}

/** Returns the store hashes of the paths that each patch is for, by the name of its file. */
function patchedPaths(store: FileStore): Map<string, readonly string[]> {
  const paths = new Map<string, readonly string[]>();
  for (const { torrent, storePath } of new PatchList(store).all())
    paths.set(torrent.name, [...(paths.get(torrent.name) ?? []), storeHashOf(storePath)]);
  return paths;
}

/** Returns the entries of the catalogue, by the names of their NARs. A NAR has one only after its narinfo is written. */
async function committedNars(store: FileStore): Promise<Map<string, CatalogueEntry>> {
  const entries = (await Catalogue.open(store)).entries();
  return new Map(Array.from(entries, (entry) => [narNameOf(FileStore.narUrl(entry.fileHash, entry.extension)), entry]));
}

/**
 * Returns true for a quarantined narinfo that nothing keeps or refers to: verify should forget it together with its
 * NAR.
 */
function isUnwanted(graph: StoreGraph, name: string): boolean {
  const storeHash = NARINFO_NAME.exec(name)?.[1];
  return storeHash !== undefined && graph.knownNumber(storeHash) === -1;
}
