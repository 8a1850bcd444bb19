/**
 * NARs of paths that publishers have built with different results, kept for a comparison (`keep-different`): a folder
 * beside the store's NARs, so nothing of it is imported or served.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../../disk/make-folder.ts';
import { namesIn } from '../../disk/names-in.ts';
import { storeError } from '../../disk/store-error.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { FetchedBuild } from '../../fetch/fetch-build.ts';
import type { BuildDifference } from '../../index/quorum.ts';
import type { NarHash, StorePath } from '../../nix/brands.ts';
import { narHashOf } from '../../nix/hash.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import { readContents } from '../../store/hashing/nar-contents.ts';
import { inState } from '../../store/state-folder.ts';
import { asError, type Warn } from '../../warning.ts';
import type { SubscriptionState } from '../state/state.ts';

/** Limit on the time for all builds of one run. */
const PATIENCE_MS = 15 * 60_000;
/**
 * Time for which NARs stay after the last run that has found the difference: no run asks about imported paths again.
 */
const KEEP_MS = 7 * 86_400_000;
/** Folder of the fetch that is running, inside of the folder of NARs. */
const FETCHING = 'fetching';

export interface KeepBuildsContext {
  readonly store: { readonly stateDir: string };
  /** Limit on all kept NARs, uncompressed. */
  readonly maxBytes: number;
  /**
   * Fetches one build of a path, whatever its signatures, into a store in an empty folder.
   *
   * @param maxBytes limit on the NAR
   * @throws NarswarmError; the signal's reason
   */
  readonly fetchBuild: (
    build: { readonly path: StorePath; readonly narHash: NarHash; readonly dir: string; readonly maxBytes: number },
    signal: AbortSignal,
  ) => Promise<FetchedBuild>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
}

/**
 * Fetches and keeps the NARs of different builds, each checked by the NarHash that its publishers signed. A build that
 * cannot be kept is a warning, not a failure of the update. An interruption ends it, without an error.
 *
 * @returns the differences, with the files of the builds that are kept
 */
export async function keepBuilds(
  differences: readonly BuildDifference[],
  context: KeepBuildsContext,
): Promise<BuildDifference[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(PATIENCE_MS)]);
  const kept: BuildDifference[] = [];
  for (const difference of differences) {
    if (signal.aborted) return [...kept, ...differences.slice(kept.length)];
    const builds: BuildDifference['builds'][number][] = [];
    for (const build of difference.builds) {
      const nar = await keepBuild(difference.path, build.narHash, { ...context, signal }).catch((error: unknown) => {
        if (context.signal.aborted) return;
        if (!isNarswarmError(error) && !signal.aborted) throw error;
        context.onWarning({ kind: 'failed', error: notKept(difference.path, error) });
      });
      builds.push(nar === undefined ? build : { ...build, nar });
    }
    kept.push({ ...difference, builds });
  }
  return kept;
}

function notKept(path: StorePath, cause: unknown): Error {
  const why = asError(cause).message;
  const code = isNarswarmError(cause) ? cause.code : 'NAR_UNAVAILABLE';
  return new NarswarmError(code, `a build of ${path} is not kept for a comparison: ${why}`, {
    cause,
    facts: { path, why },
  });
}

/** @returns the absolute path of the NAR */
async function keepBuild(path: StorePath, narHash: string, context: KeepBuildsContext): Promise<string> {
  const { store, fetchBuild, signal } = context;
  const hash = narHash.replace(/^sha256:/, '') as NarHash;
  const folder = inState(store, 'different');
  const file = join(folder, `${baseNameOf(path)}.${hash.slice(0, 12)}.nar`);
  const dir = join(folder, FETCHING);
  try {
    await makeFolder(folder);
    if (await isWhole(file, hash, signal)) {
      const now = new Date();
      await utimes(file, now, now); // the difference was found again
      return file;
    }
    const maxBytes = Math.max(0, context.maxBytes - (await sizeOf(folder)));
    const built = await fetchBuild({ path, narHash: hash, dir, maxBytes }, signal);
    const part = join(dir, 'unpacked');
    await unpack(built, part, hash, signal);
    await rename(part, file);
    return file;
  } catch (error) {
    if (isNarswarmError(error) || signal.aborted) throw error;
    throw storeError(error, file);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Writes the uncompressed NAR. @throws HASH_MISMATCH if it is not the build */
async function unpack(
  { path, file, compression, narSize }: FetchedBuild,
  to: string,
  narHash: NarHash,
  signal: AbortSignal,
): Promise<void> {
  const sha256 = createHash('sha256');
  await using handle = await open(to, 'w');
  for await (const bytes of readContents(file, compression, narSize, signal)) {
    sha256.update(bytes);
    await handle.write(bytes);
  }
  await handle.sync();
  if (narHashOf(sha256.digest()) === narHash) return;
  throw new NarswarmError('HASH_MISMATCH', `the NAR does not have the contents sha256:${narHash}`, { facts: { path } });
}

/** Reads a kept NAR again: a damaged one would show differences that no builder has made. */
async function isWhole(file: string, narHash: NarHash, signal: AbortSignal): Promise<boolean> {
  const sha256 = createHash('sha256');
  try {
    for await (const bytes of createReadStream(file, { signal })) sha256.update(bytes as Buffer);
  } catch {
    signal.throwIfAborted();
    return false; // not kept so far, or not readable: it is fetched
  }
  return narHashOf(sha256.digest()) === narHash;
}

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for await (const name of namesIn(folder)) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found?.isFile() === true) bytes += found.size;
  }
  return bytes;
}

/**
 * Removes kept NARs that no state names and that are older than a week, and files that a killed run has left. @returns
 * the removed files
 */
export async function pruneBuilds(
  store: { readonly stateDir: string },
  states: readonly SubscriptionState[],
  now: Date,
): Promise<string[]> {
  const folder = inState(store, 'different');
  const notes = states.flatMap((state) => state.notes);
  const named = new Set(
    notes.flatMap((note) =>
      typeof note === 'string' || note.kind !== 'different-builds'
        ? []
        : note.differences.flatMap(({ builds }) => builds.flatMap(({ nar }) => nar ?? [])),
    ),
  );
  const removed: string[] = [];
  for await (const name of namesIn(folder)) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || named.has(path) || now.getTime() - found.mtimeMs < KEEP_MS) continue;
    await rm(path, { recursive: true, force: true });
    removed.push(path);
  }
  return removed;
}
