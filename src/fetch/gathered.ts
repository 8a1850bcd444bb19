import { NarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { completePart, reachedFrom, type Closure, type MissingPath } from './closure.ts';
import { missingOf } from './fetch-nars.ts';
import type { Plan } from './plan.ts';

/** What a fetch has of its closure so far: what is there in full, and which paths could not be had. */
export class Gathered {
  readonly #roots: readonly StoreHash[];
  readonly #absent: Map<StoreHash, MissingPath>;
  /** Paths that the target holds, though the store has lost them: what refers to them is whole all the same. */
  #heldElsewhere: ReadonlySet<string> = new Set();
  #all: Closure;
  #closure: Closure;

  constructor(roots: Iterable<StoreHash>, walked: Closure, absent: ReadonlyMap<StoreHash, MissingPath>) {
    this.#roots = [...roots];
    this.#absent = new Map(absent);
    this.#all = walked;
    this.#closure = completePart(walked, new Set(absent.keys()));
  }

  /** The part of the closure that is there in full. */
  get closure(): Closure {
    return this.#closure;
  }

  /** Paths that could not be had. */
  get missing(): MissingPath[] {
    return [...this.#absent.values()];
  }

  /** Roots whose closure is there in full. */
  get wholeRoots(): StorePath[] {
    return this.#roots.flatMap((hash) => this.#closure.get(hash)?.storePath ?? []);
  }

  /** Notes paths that the target holds and the store has lost. */
  noteLost(paths: ReadonlySet<string>): void {
    this.#heldElsewhere = paths;
  }

  /** Notes a path that could not be had. */
  lack(hash: StoreHash, missing: MissingPath): void {
    this.#absent.set(hash, missing);
  }

  /**
   * Takes in what came of a fetch.
   *
   * @param found narinfos as their files are; another build of a path may refer to other paths than the one before
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

/** Makes the error of a fetch that left something out; all else is there. */
export function lackOf(missing: readonly MissingPath[], { jobs, unsized }: Plan): NarswarmError {
  const [first] = missing;
  const { path, reason, code } = first ?? { path: undefined, reason: 'interrupted', code: undefined };
  const isOfNix = code === 'IMPORT_FAILED';
  const wanted = [...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map(({ storePath }) => storePath)];
  // NARs of the store that turned out wrong were not planned.
  const total = new Set<string>([...wanted, ...missing.map((lack) => lack.path)]).size;
  const what = isOfNix
    ? `${missing.length} path${missing.length === 1 ? '' : 's'} could not be imported`
    : `${missing.length} of ${total} NARs could not be fetched`;
  const more = missing.length > 1 ? ` (and ${missing.length - 1} more)` : '';
  const kept = missing.length < total ? (isOfNix ? '; the others are imported' : '; the others are kept') : '';
  const isOwn = code === 'NIX_MISSING' || code === 'NARINFO_MISSING' || isOfNix;
  return new NarswarmError(isOwn ? code : 'NAR_UNAVAILABLE', `${what}: ${reason}${more}${kept}`, {
    facts: { path, failed: missing.length, total },
  });
}
