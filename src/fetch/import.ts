import { rm } from 'node:fs/promises';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { copyClosure } from '../nix/nix-copy.ts';
import { queryInvalidPaths } from '../nix/nix-queries.ts';
import { isTrusted } from '../nix/signature.ts';
import { parseStorePath, storeHashOf } from '../nix/store-path.ts';
import { FileStore } from '../store/file-store.ts';
import { isSameNar } from '../store/hash-nar.ts';
import { relabelNar } from '../store/relabel-nar.ts';
import { storeError } from '../disk/store-error.ts';
import { completePart, topsOf, type Closure } from './closure.ts';
import { commit } from './commit.ts';
import { fetchInstead, type FetchedNars, type FetchNarsContext } from './fetch-nars.ts';
import { namedFile } from './named-file.ts';
import type { Plan } from './plan.ts';
import { fetchEach } from './fetch-nar.ts';
import { nextToImport, refusedAlone, refusedOf } from './refused.ts';

export interface ImportOptions {
  /** Target store. Undefined: this machine's default store. */
  readonly to?: string | undefined;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  /** Called with each line that `nix copy` prints. */
  readonly onNixLine: (line: string) => void;
}

/** The fetched closure, from which a failed import is repaired. */
interface Fetched {
  readonly closure: Closure;
  readonly plan: Plan;
}

/** Result of an import. */
export interface Imported {
  /** The closure after the import: other sources may have had another file or build of refused paths. */
  readonly closure: Closure;
  /** Paths that Nix refused and no source has in a better form. */
  readonly failures: ReadonlyMap<StorePath, NarswarmError>;
}

interface Run extends ImportOptions {
  /** Means of fetching refused NARs again. */
  readonly download: FetchNarsContext;
  /** True if `nix copy` checks signatures. */
  readonly checkSignatures: boolean;
}

/**
 * Imports with `nix copy`. If Nix refuses a NAR, fetches it again. If the file is not the verified one, the disk is to
 * blame. Otherwise its narinfo lied about FileHash, and the descriptions of other sources are tried. Leaves out paths
 * that cannot be repaired, with their referrers, and imports all others. Nix also fails if another process imports the
 * same paths at the same time: then it is run again as long as that helps.
 *
 * @throws IMPORT_FAILED in Nix's own words if no single path is to blame; NIX_MISSING; the signal's reason
 */
export async function importRoots(
  roots: readonly StorePath[],
  fetched: Fetched,
  download: FetchNarsContext,
  options: ImportOptions,
): Promise<Imported> {
  const { signal, store } = download;
  const { to, trustedPublicKeys, onNixLine } = options;
  // Nix repeats our check, except for unsigned paths of a trusted cache.
  const mayBeUnsigned = download.upstreams.some((upstream) => upstream.isTrusted);
  const checkSignatures =
    !mayBeUnsigned || Array.from(fetched.closure.values()).every((info) => isTrusted(info, download.keys));
  const run: Run = { download, to, trustedPublicKeys, onNixLine, checkSignatures };
  const failures = new Map<StorePath, NarswarmError>();
  const damaged = new Set<StorePath>();
  let { closure } = fetched;
  let lacking = Infinity;
  for (;;) {
    const sound = completePart(closure, new Set([...failures.keys()].map(storeHashOf)));
    const wanted = failures.size === 0 ? roots : topsOf(sound);
    if (wanted.length === 0) return { closure, failures };
    try {
      await copy(wanted, run);
      return { closure, failures };
    } catch (error) {
      signal.throwIfAborted(); // Ctrl-C also ends Nix, before us
      if (!isNarswarmError(error, 'IMPORT_FAILED') || error.facts.isOfTarget === true) throw error;
      const again = await refetchDamaged(fetched, damaged, download);
      for (const [path, failure] of again.failures) failures.set(path, asRefusal(path, failure, download));
      if (again.closure.size > 0) {
        closure = new Map([...closure, ...again.closure]);
        continue;
      }
      const paths = Array.from(sound.values(), ({ storePath }) => storePath);
      const invalid = await queryInvalidPaths(paths, to, { signal }).catch(() => Promise.reject(error));
      const isFurther = invalid.size < lacking;
      lacking = invalid.size;
      const relabelled = await relabel(invalid, sound, store);
      if (relabelled.size > 0) {
        closure = new Map([...closure, ...relabelled]);
        continue;
      }
      const { refused, isSure } = await whatIsRefused(error, sound, invalid, isFurther, run);
      if (refused.size === 0 && !isFurther) throw error;
      const instead = await fetchInstead(refused, closure, download);
      if (!isSure && instead.failures.size === refused.size) throw error; // no source has another file
      if (refused.size > 0) lacking = Infinity;
      for (const [path, failure] of instead.failures) failures.set(path, asRefusal(path, failure, download));
      closure = instead.closure;
      const kept = completePart(closure, new Set([...failures.keys()].map(storeHashOf)));
      await commit(kept, instead.jobs, store);
    }
  }
}

function copy(paths: readonly StorePath[], run: Run): Promise<void> {
  const { store, signal } = run.download;
  const { to, trustedPublicKeys, checkSignatures, onNixLine: onLine } = run;
  return copyClosure({ from: `file://${store.dir}`, to, paths, trustedPublicKeys, checkSignatures, onLine, signal });
}

/**
 * Finds the paths that Nix refuses: the one that it names, or those with other contents, or those that fail alone. If
 * nothing can be imported, it is not certain that they are to blame.
 */
async function whatIsRefused(
  error: NarswarmError<'IMPORT_FAILED'>,
  closure: Closure,
  invalid: ReadonlySet<StorePath>,
  isFurther: boolean,
  run: Run,
): Promise<{ readonly refused: ReadonlyMap<StorePath, NarswarmError>; readonly isSure: boolean }> {
  const { store, signal } = run.download;
  const named = error.facts.path;
  if (named === undefined && isFurther) return { refused: new Map(), isSure: true };
  const next = nextToImport(closure, invalid);
  const wrong = named !== undefined ? [parseStorePath(named)] : await refusedOf(next, store, signal);
  if (wrong.length > 0) {
    const { candidates, order } = run.download;
    for (const path of wrong) order.noteLie(candidates.originOf(storeHashOf(path))?.upstream);
    const refused = new Map(wrong.map((path) => [path, wrongContents(path, error, run.download)]));
    return { refused, isSure: true };
  }
  const { refused, imported } = await refusedAlone(next, (path) => copy([path], run), signal);
  return { refused, isSure: imported > 0 };
}

/**
 * Corrects narinfos of the store that name another compression than their file has. Some versions of Nix look at the
 * file, others believe the narinfo.
 */
async function relabel(
  paths: ReadonlySet<StorePath>,
  closure: Closure,
  store: FileStore,
): Promise<Map<StoreHash, NarInfo>> {
  const relabelled = new Map<StoreHash, NarInfo>();
  for (const [hash, info] of closure) {
    if (!paths.has(info.storePath)) continue;
    const own = await relabelNar(info, store);
    if (own !== undefined) relabelled.set(hash, own);
  }
  return relabelled;
}

function wrongContents(path: StorePath, cause: NarswarmError, { candidates }: FetchNarsContext): NarswarmError {
  const source = candidates.originOf(storeHashOf(path))?.name ?? 'an unknown source';
  const refused = (nar: string): string =>
    `${cause.message} (${nar} does not have the signed contents; its narinfo came from ${source})`;
  return new NarswarmError('IMPORT_FAILED', refused(`the NAR of ${path}`), {
    cause,
    facts: { ...cause.facts, path, source, why: refused('its NAR') },
  });
}

function asRefusal(path: StorePath, failure: unknown, download: FetchNarsContext): NarswarmError {
  if (isNarswarmError(failure)) return failure;
  return wrongContents(path, new NarswarmError('IMPORT_FAILED', String(failure), { cause: failure }), download);
}

/**
 * Fetches NARs again that were already in the store and are not the verified ones.
 *
 * @param known NARs found to be damaged before; new ones are added
 * @returns an empty closure if all are right
 */
async function refetchDamaged(
  { plan }: Fetched,
  known: Set<StorePath>,
  download: FetchNarsContext,
): Promise<Pick<FetchedNars, 'closure' | 'failures'>> {
  const { store, tell } = download;
  const damaged = new Map<StoreHash, NarInfo>();
  for (const info of plan.inStore) {
    const file = namedFile(info);
    if (file === undefined || known.has(info.storePath)) continue;
    const path = store.narPath({ ...info, url: FileStore.narUrl(file.fileHash, file.extension) });
    if (await isSameNar(path, file)) continue;
    known.add(info.storePath);
    damaged.set(storeHashOf(info.storePath), info);
    // `narswarm verify` may have quarantined it meanwhile.
    await rm(path, { force: true }).catch((error: unknown) => Promise.reject(storeError(error, path)));
    tell({ type: 'warning', warning: { kind: 'damaged-file', file: path, path: info.storePath } });
  }
  if (damaged.size === 0) return { closure: damaged, failures: new Map() };
  const { closure, jobs, failures } = await fetchEach(damaged, download);
  await commit(completePart(closure, new Set([...failures.keys()].map(storeHashOf))), jobs, store);
  return { closure, failures };
}
