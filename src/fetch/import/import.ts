import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { FolderUrl } from '../../nix/programs/folder-url.ts';
import { copyClosure } from '../../nix/programs/nix-copy.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { isTrusted } from '../../nix/signature.ts';
import { parseStorePath, storeHashOf } from '../../nix/store-path.ts';
import { FileStore } from '../../store/file-store.ts';
import { isSameNar } from '../../store/hashing/hash-nar.ts';
import { relabelNar } from '../../store/export/relabel-nar.ts';
import { completePart, topsOf, type Closure } from '../walk/closure.ts';
import { commit } from '../commit/commit.ts';
import { fetchInstead, type FetchNarsContext } from '../download/fetch-nars.ts';
import { namedFile } from '../plan/named-file.ts';
import type { Plan } from '../plan/plan.ts';
import { fetchEach } from '../download/fetch-nar.ts';
import { nextToImport, refusedAlone, refusedOf } from './refused.ts';
import { remove } from '../../disk/remove.ts';

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

/**
 * Imports with `nix copy`. If Nix refuses a NAR, fetches it again. If the file is not the verified one, the disk is to
 * blame. Otherwise its narinfo lied about FileHash, and the descriptions of other sources are tried. Leaves out paths
 * that cannot be repaired, with their referrers, and imports all others. Nix also fails if another process imports the
 * same paths at the same time: then it is run again as long as that helps.
 *
 * @throws IMPORT_FAILED in Nix's own words if no single path is to blame; NIX_MISSING; the signal's reason
 */
export function importRoots(
  roots: readonly StorePath[],
  fetched: Fetched,
  download: FetchNarsContext,
  options: ImportOptions,
): Promise<Imported> {
  return new Import(fetched, download, options).run(roots);
}

/** Returns true if Nix should repeat our check of signatures: always, except for unsigned paths of a trusted cache. */
export function checksSignatures(
  closure: Closure,
  { upstreams, keys }: Pick<FetchNarsContext, 'upstreams' | 'keys'>,
): boolean {
  const mayBeUnsigned = upstreams.some((upstream) => upstream.isTrusted);
  return !mayBeUnsigned || Array.from(closure.values()).every((info) => isTrusted(info, keys));
}

/** One import, with the repairs so far. */
class Import {
  /** NARs that were in the store before the fetch. */
  readonly #inStore: readonly NarInfo[];
  readonly #download: FetchNarsContext;
  readonly #options: ImportOptions;
  /** True if `nix copy` checks signatures. */
  readonly #checkSignatures: boolean;
  #closure: Closure;
  readonly #failures = new Map<StorePath, NarswarmError>();
  /** Paths whose NAR in the store was found damaged. */
  readonly #damaged = new Set<StorePath>();
  /** Number of paths that the target lacked after the last refusal. With fewer, an import has got further. */
  #lacking = Infinity;

  constructor({ closure, plan }: Fetched, download: FetchNarsContext, options: ImportOptions) {
    this.#inStore = plan.inStore;
    this.#download = download;
    this.#options = options;
    this.#closure = closure;
    this.#checkSignatures = checksSignatures(closure, download);
  }

  async run(roots: readonly StorePath[]): Promise<Imported> {
    for (;;) {
      const sound = without(this.#closure, this.#failures);
      const wanted = this.#failures.size === 0 ? roots : topsOf(sound);
      if (wanted.length === 0) break;
      try {
        await this.#copy(wanted);
        break;
      } catch (error) {
        this.#download.signal.throwIfAborted(); // Ctrl-C also ends Nix, before us
        if (!isNarswarmError(error, 'IMPORT_FAILED') || error.facts.isOfTarget === true) throw error;
        await this.#repair(sound, error);
      }
    }
    return { closure: this.#closure, failures: this.#failures };
  }

  async #copy(paths: readonly StorePath[]): Promise<void> {
    const { store, signal } = this.#download;
    const { to, trustedPublicKeys, onNixLine: onLine } = this.#options;
    const checkSignatures = this.#checkSignatures;
    await using from = await FolderUrl.open(store.dir);
    await copyClosure({ from: from.href, to, paths, trustedPublicKeys, checkSignatures, onLine, signal });
  }

  /**
   * Repairs the cause of Nix's failure, or records the paths that cannot be repaired.
   *
   * @param sound the paths that were to be imported
   * @throws `error` if another import would fail in the same way
   */
  async #repair(sound: Closure, error: NarswarmError<'IMPORT_FAILED'>): Promise<void> {
    if (await this.#refetchDamaged()) return;
    const { store, signal } = this.#download;
    const paths = Array.from(sound.values(), ({ storePath }) => storePath);
    const invalid = await queryInvalidPaths(paths, this.#options.to, { signal }).catch(() => Promise.reject(error));
    const isFurther = invalid.size < this.#lacking;
    this.#lacking = invalid.size;
    if (await this.#relabel(invalid, sound)) return;
    const { refused, isSure } = await this.#findRefused(error, sound, invalid, isFurther);
    if (refused.size === 0 && !isFurther) throw error;
    const instead = await fetchInstead(refused, this.#closure, this.#download);
    if (!isSure && instead.failures.size === refused.size) throw error; // no source has another file
    if (refused.size > 0) this.#lacking = Infinity;
    this.#closure = instead.closure;
    this.#noteFailures(instead.failures);
    await commit(without(this.#closure, this.#failures), instead.jobs, store);
  }

  /** Fetches NARs again that were in the store before and are not the verified ones. @returns false if all are right */
  async #refetchDamaged(): Promise<boolean> {
    const damaged = await this.#removeDamaged();
    if (damaged.size === 0) return false;
    const { closure, jobs, failures } = await fetchEach(damaged, this.#download);
    await commit(without(closure, failures), jobs, this.#download.store);
    this.#closure = new Map([...this.#closure, ...closure]);
    this.#noteFailures(failures);
    return true;
  }

  /** Removes NARs from the store that are not the verified ones. @returns those that were not known to be damaged */
  async #removeDamaged(): Promise<Map<StoreHash, NarInfo>> {
    const { store, tell } = this.#download;
    const damaged = new Map<StoreHash, NarInfo>();
    for (const info of this.#inStore) {
      const file = namedFile(info);
      if (file === undefined || this.#damaged.has(info.storePath)) continue;
      const path = store.narPath({ ...info, url: FileStore.narUrl(file.fileHash, file.extension) });
      if (await isSameNar(path, file)) continue;
      this.#damaged.add(info.storePath);
      damaged.set(storeHashOf(info.storePath), info);
      // `narswarm verify` may have quarantined it meanwhile.
      await remove(path);
      tell({ type: 'warning', warning: { kind: 'damaged-file', file: path, path: info.storePath } });
    }
    return damaged;
  }

  /**
   * Corrects narinfos of the store that name another compression than their file has. Some versions of Nix look at the
   * file, others believe the narinfo.
   *
   * @returns false if all name the right one
   */
  async #relabel(paths: ReadonlySet<StorePath>, closure: Closure): Promise<boolean> {
    const relabelled = new Map<StoreHash, NarInfo>();
    for (const [hash, info] of closure) {
      if (!paths.has(info.storePath)) continue;
      const own = await relabelNar(info, this.#download.store);
      if (own !== undefined) relabelled.set(hash, own);
    }
    this.#closure = new Map([...this.#closure, ...relabelled]);
    return relabelled.size > 0;
  }

  /**
   * Finds the paths that Nix refuses: the one that it names, or those with other contents, or those that fail alone. If
   * nothing can be imported, it is not certain that they are to blame.
   *
   * @param isFurther true if this import got further than the one before
   */
  async #findRefused(
    error: NarswarmError<'IMPORT_FAILED'>,
    closure: Closure,
    invalid: ReadonlySet<StorePath>,
    isFurther: boolean,
  ): Promise<{ readonly refused: ReadonlyMap<StorePath, NarswarmError>; readonly isSure: boolean }> {
    const { store, candidates, order, signal } = this.#download;
    const named = error.facts.path;
    // Another process may have imported the same paths: then running Nix again is enough.
    if (named === undefined && isFurther) return { refused: new Map(), isSure: true };
    const next = nextToImport(closure, invalid);
    const wrong = named !== undefined ? [parseStorePath(named)] : await refusedOf(next, store, signal);
    if (wrong.length > 0) {
      for (const path of wrong) order.noteLie(candidates.originOf(storeHashOf(path))?.upstream);
      const refused = new Map(wrong.map((path) => [path, wrongContents(path, error, this.#download)]));
      return { refused, isSure: true };
    }
    const { refused, imported } = await refusedAlone(next, (path) => this.#copy([path]), signal);
    return { refused, isSure: imported > 0 };
  }

  #noteFailures(failures: ReadonlyMap<StorePath, unknown>): void {
    for (const [path, failure] of failures) this.#failures.set(path, asRefusal(path, failure, this.#download));
  }
}

/** Returns the part of a closure that is complete without failed paths. */
function without(closure: Closure, failures: ReadonlyMap<StorePath, unknown>): Closure {
  return completePart(closure, new Set([...failures.keys()].map(storeHashOf)));
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
