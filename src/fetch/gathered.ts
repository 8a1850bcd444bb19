import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { completePart, reachedFrom, type Closure, type MissingPath } from './walk/closure.ts';
import { missingOf } from './download/fetch-nars.ts';
import type { Plan } from './plan/plan.ts';

/** The part of a closure that a fetch has so far: complete paths, and paths that could not be fetched. */
export class Gathered {
  readonly #roots: readonly StoreHash[];
  readonly #absent: Map<StoreHash, MissingPath>;
  /** Paths that the target holds although the store has lost them. Their referrers count as complete. */
  #heldElsewhere: ReadonlySet<string> = new Set();
  #all: Closure;
  #closure: Closure;

  constructor(roots: Iterable<StoreHash>, walked: Closure, absent: ReadonlyMap<StoreHash, MissingPath>) {
    this.#roots = [...roots];
    this.#absent = new Map(absent);
    this.#all = walked;
    this.#closure = completePart(walked, new Set(absent.keys()));
  }

  /** The complete part of the closure. */
  get closure(): Closure {
    return this.#closure;
  }

  /** The paths that could not be fetched. */
  get missing(): MissingPath[] {
    return [...this.#absent.values()];
  }

  /** The roots whose closure is complete. */
  get wholeRoots(): StorePath[] {
    return this.#roots.flatMap((hash) => this.#closure.get(hash)?.storePath ?? []);
  }

  /** Records paths that the target holds and the store has lost. */
  noteLost(paths: ReadonlySet<string>): void {
    this.#heldElsewhere = paths;
  }

  /** Records a path that could not be fetched. */
  lack(hash: StoreHash, missing: MissingPath): void {
    this.#absent.set(hash, missing);
  }

  /**
   * Adds the results of a fetch.
   *
   * @param found narinfos with their actual files. Another build of a path may have other references than the previous
   *   one
   */
  take(found: Closure, failures: ReadonlyMap<StorePath, unknown>): void {
    for (const [hash, missing] of missingOf(failures)) this.#absent.set(hash, missing);
    this.#all = new Map([...this.#all, ...found]);
    const reached = reachedFrom(this.#roots, this.#all);
    for (const hash of this.#absent.keys()) if (!reached.hashes.has(hash)) this.#absent.delete(hash);
    const lacking = [...this.#absent].filter(([, { path }]) => !this.#heldElsewhere.has(path));
    this.#closure = completePart(reached.closure, new Set(lacking.map(([hash]) => hash)));
  }
}

/** Makes the error of a fetch that left paths out. All other paths were fetched. */
export function lackError(missing: readonly MissingPath[], { jobs, unsized }: Plan): NarswarmError {
  const [first] = missing;
  const { path, reason, code } = first ?? { path: undefined, reason: 'interrupted', code: undefined };
  const wanted = [...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map(({ storePath }) => storePath)];
  // Wrong NARs of the store are not in the plan.
  const total = new Set<string>([...wanted, ...missing.map((lack) => lack.path)]).size;
  const isOwn = code === 'NIX_MISSING' || code === 'NARINFO_MISSING' || code === 'IMPORT_FAILED';
  const incomplete = code === 'IMPORT_FAILED' ? 'import' : 'fetch';
  return new NarswarmError(isOwn ? code : 'NAR_UNAVAILABLE', reason, {
    facts: { path, incomplete, failed: missing.length, total },
  });
}
