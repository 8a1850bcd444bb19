import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isNarswarmError } from '../../errors.ts';
import { remove } from '../../disk/remove.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { inNixEntry, isInNixAs, type CatalogueEntry } from '../catalogue/catalogue-entry.ts';
import type { Claim } from '../claims.ts';
import type { FileStore } from '../file-store.ts';
import type { NixNars } from '../in-nix/nix-nars.ts';
import type { Warn } from '../../warning.ts';
import { BEING_SERVED_MS, forgetServed } from '../catalogue/last-served.ts';
import { inState } from '../state-folder.ts';
import { adopt } from './adopt.ts';
import { reach, type Kept, type Root } from './keep.ts';
import { RefusedPaths } from './refused-paths.ts';
import { PRESENT, type StoreGraph } from './store-graph.ts';

/** When to release NARs that the Nix store of this machine has, too. `pressure`: as far as the budget needs it. */
export type ReleaseWhen = 'always' | 'pressure';

/** NARs that may be released, since their paths are in the Nix store. */
export interface Releasing {
  readonly when: ReleaseWhen;
  readonly nars: NixNars;
  /**
   * Names of the subscriptions that are imported into the Nix store of this machine, and not published. The NARs of all
   * others stay, and so do pinned ones.
   */
  readonly imported: ReadonlySet<string>;
}

/** NAR files that were released, or would be without a dry run. */
export interface Released {
  readonly nars: number;
  readonly bytes: number;
}

export interface ReleaseContext {
  readonly store: FileStore;
  readonly graph: StoreGraph;
  readonly kept: Kept;
  readonly roots: readonly Root[];
  readonly claims: readonly Claim[];
  readonly catalogue: Catalogue;
  /** Names of NARs that no other machine holds: they go last, since Nix may collect the only copy that is left. */
  readonly sole: ReadonlySet<string>;
  /** Bytes to free under pressure. */
  readonly excessBytes: number;
  readonly dryRun: boolean;
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/** A NAR file, and the paths whose narinfos name it. */
interface Candidate {
  readonly nar: number;
  readonly entries: CatalogueEntry[];
}

/**
 * Removes NAR files whose paths the Nix store of this machine holds, and keeps their narinfos. Neighbours get the
 * uncompressed NAR from the Nix store. Reads each path first, through the map of its NAR: its NarHash must be the
 * signed one. Then records that in the catalogue, and removes the file. In `graph`, its file has 0 bytes from then on.
 *
 * Keeps files that a running process has claimed, that were served a moment ago, or that `add` put here. Keeps all
 * files of a store with a hash map of its own, since followers want the files that it lists.
 *
 * @throws STORE_UNWRITABLE, STORE_FULL; the signal's reason
 */
export async function release(releasing: Releasing, context: ReleaseContext): Promise<Released> {
  const { graph, dryRun, excessBytes, signal, onWarning } = context;
  const { when, nars } = releasing;
  const isEnough = (bytes: number): boolean => when === 'pressure' && bytes >= excessBytes;
  const released = { nars: 0, bytes: 0 };
  if (isEnough(0) || (await publishes(context.store))) return released;
  const candidates = candidatesIn(releasing, context);
  const refused = await RefusedPaths.read(context.store, nars);
  const noneIfUnknown = (error: unknown): [] => {
    signal.throwIfAborted();
    if (!isNarswarmError(error, 'NIX_MISSING', 'NIX_FAILED')) throw error;
    if (when === 'always') onWarning({ kind: 'nothing-released', error });
    return [];
  };
  const valid = await validOf(candidates, signal).catch(noneIfUnknown);
  try {
    for (const candidate of valid) {
      if (isEnough(released.bytes)) break;
      const bytes = graph.narBytes(candidate.nar);
      if (!dryRun && !(await letGo(candidate, { nars, refused }, context))) continue;
      countAsReleased(candidate.nar, context);
      released.nars++;
      released.bytes += bytes;
    }
    if (when === 'always' && !dryRun)
      for (const nar of await adopt(releasing, refused, context).catch(noneIfUnknown)) countAsReleased(nar, context);
  } finally {
    await refused.write();
  }
  return released;
}

/**
 * Counts NARs that are read from the Nix store as files of 0 bytes: as long as it has their paths, their narinfos are
 * needed to give them to others.
 */
export function countReleased(graph: StoreGraph, catalogue: Catalogue, nars: NixNars, now: Date): void {
  for (const { storePath, isInNix } of catalogue.entries()) {
    const nar = isInNix === true ? graph.narOf(graph.knownNumber(storeHashOf(storePath))) : -1;
    if (nar < 0 || graph.narBytes(nar) >= 0 || nars.changedAtMs(storePath) === undefined) continue;
    countAsReleased(nar, { graph, now });
  }
}

function countAsReleased(nar: number, { graph, now }: Pick<ReleaseContext, 'graph' | 'now'>): void {
  graph.addNar(graph.narName(nar), { sizeBytes: 0, mtimeMs: now.getTime(), ctimeMs: 0 });
}

/** Returns true if this machine has published a hash map of the store. */
async function publishes(store: FileStore): Promise<boolean> {
  return (await readdir(inState(store, 'published')).catch(() => [])).length > 0;
}

/** Returns the NARs that may go, the longest unused first, but those that no other machine holds last. */
function candidatesIn({ imported, nars }: Releasing, context: ReleaseContext): Candidate[] {
  const { graph, catalogue, kept, roots, claims, sole, now } = context;
  const staying = roots.filter(({ keeper }) => keeper === undefined || !imported.has(keeper));
  const stays = reach(graph, [
    ...staying.map(({ storePath }) => storeHashOf(storePath)),
    ...claims.map(({ storeHash }) => storeHash),
  ]);
  const servedSinceMs = now.getTime() - BEING_SERVED_MS;
  const isSole = ({ nar }: Candidate): number => Number(sole.has(graph.narName(nar)));
  const byNar = new Map<number, Candidate>();
  for (const entry of catalogue.entries()) {
    const path = graph.knownNumber(storeHashOf(entry.storePath));
    if (path < 0 || graph.state(path) !== PRESENT || stays[path] === 1) continue;
    if (entry.askedBy === 'add' || entry.askedBy === 'publish') continue;
    const nar = graph.narOf(path);
    if (graph.narBytes(nar) <= 0 || kept.nars[nar] === 1 || graph.servedAtMs(nar) > servedSinceMs) continue;
    if (nars.changedAtMs(entry.storePath) === undefined) continue; // not in the Nix store
    const candidate = byNar.get(nar) ?? { nar, entries: [] };
    candidate.entries.push(entry);
    byNar.set(nar, candidate);
  }
  return [...byNar.values()]
    .filter(({ nar, entries }) => entries.length === graph.narUsers(nar)) // no other path needs the file
    .toSorted((a, b) => isSole(a) - isSole(b) || graph.narUsedAtMs(a.nar) - graph.narUsedAtMs(b.nar));
}

/** Returns the candidates whose paths Nix counts as valid. @throws NIX_MISSING, NIX_FAILED; the signal's reason */
async function validOf(candidates: readonly Candidate[], signal: AbortSignal): Promise<readonly Candidate[]> {
  const paths = candidates.flatMap(({ entries }) => entries.map(({ storePath }) => storePath));
  if (paths.length === 0) return [];
  const withoutNix = 'add the folder of its programs to PATH';
  const invalid = await queryInvalidPaths(paths, undefined, { signal, withoutNix });
  return candidates.filter(({ entries }) => entries.every(({ storePath }) => !invalid.has(storePath)));
}

/** Releases one NAR file. Returns false if the Nix store has other contents, or contents that cannot be read. */
async function letGo(
  { nar, entries }: Candidate,
  { nars, refused }: { readonly nars: NixNars; readonly refused: RefusedPaths },
  { store, graph, catalogue, signal }: ReleaseContext,
): Promise<boolean> {
  const inNix: CatalogueEntry[] = [];
  for (const file of entries) {
    signal.throwIfAborted();
    const { storePath } = file;
    const info = await store.readNarInfoOf(storePath);
    if (info === undefined || refused.has(info)) return false;
    // The line of a run that was killed before it removed the file names no file.
    if (file.isInNix !== true && info.fileHash !== undefined && info.fileHash !== file.fileHash) return false;
    const hashed = await nars.hash(storePath, info.narSize, signal);
    const entry = hashed && inNixEntry(hashed, file);
    nars.forget(storePath);
    if (entry === undefined || !isInNixAs(entry, info)) {
      if (hashed !== undefined) refused.add(info, hashed.changedAtMs);
      return false;
    }
    inNix.push(entry);
  }
  await catalogue.add(inNix); // first: a file that stays after a kill is released by the next run
  const name = graph.narName(nar);
  await remove(join(store.dir, 'nar', name));
  await forgetServed(store, name);
  return true;
}
