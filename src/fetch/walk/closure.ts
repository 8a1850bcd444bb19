import { NarswarmError, isNarswarmError, type ErrorCode } from '../../errors.ts';
import { failureOf, type Failure } from '../../failure.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStoreHash, storeDirOf, storePathFromBaseName } from '../../nix/store-path.ts';

/**
 * Narinfos that are requested at the same time. A closure of 500 to 800 paths, nine or ten references deep, takes 9 to 12
 * round trips; with half as many it takes 12 to 16.
 */
const CONCURRENCY = 128;

/** Errors of a look-up that would occur for every other path, too. */
const OF_ALL_PATHS: ReadonlySet<ErrorCode> = new Set(['STORE_FULL', 'STORE_UNWRITABLE', 'INTERRUPTED']);

/** Finds the narinfo of a store hash, with a trusted signature. Undefined if no source has it. */
export type FindNarInfo = (
  hash: StoreHash,
  signal: AbortSignal,
  /** The whole path, if something refers to it. */
  path?: StorePath,
) => Promise<NarInfo | undefined>;

/** A closure: every path that the roots reach, roots first, breadth first. */
export type Closure = ReadonlyMap<StoreHash, NarInfo>;

/** A path that could not be found, with the reason. */
export interface MissingPath extends Failure {
  readonly path: string;
  /** True if every source was asked and none has it. If a source failed, it may have it another time. */
  readonly isNowhere: boolean;
}

/**
 * Walks narinfo `References` breadth-first from the roots. Asks for each narinfo once, so cycles and self-references
 * are harmless.
 *
 * @throws NARINFO_MISSING, naming the path and a path that refers to it; errors of `find`
 */
export async function walkClosure(
  roots: readonly StoreHash[],
  find: FindNarInfo,
  options: {
    signal?: AbortSignal;
    concurrency?: number;
    /** Narinfos that are already known. They are neither requested nor in the result. */
    known?: Closure;
    /** True to include only the roots, without their references. */
    onlyRoots?: boolean;
    onNarInfo?: (info: NarInfo) => void;
    /** Called with a path without a good narinfo; the walk continues. Default: the walk ends there. */
    onMissing?: (hash: StoreHash, missing: MissingPath) => void;
    /** Returns the name of a root in messages. Default: its hash part. */
    nameOf?: (hash: StoreHash) => string | undefined;
  } = {},
): Promise<Closure> {
  const closure = new Map<StoreHash, NarInfo>();
  const seen = new Set<StoreHash>(options.known?.keys());
  // p-queue takes 14 ms of processor for 500 paths whose narinfos are at hand.
  const concurrency = options.concurrency ?? CONCURRENCY;
  const waiting: (() => Promise<void>)[] = [];
  const done = Promise.withResolvers<void>();
  let begun = 0; // of `waiting`; to shift a long array is slow
  let active = 0;
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  let failure: { error: unknown } | undefined;

  const findOrReport = async (hash: StoreHash, referrer: NarInfo | undefined, baseName: string) => {
    const path = referrer && storePathFromBaseName(baseName, storeDirOf(referrer.storePath));
    try {
      const info = await find(hash, signal, path);
      if (info === undefined) throw missing(baseName, referrer?.storePath, options.nameOf?.(hash));
      return info;
    } catch (error) {
      const isOneOnly = isNarswarmError(error) && !OF_ALL_PATHS.has(error.code);
      if (signal.aborted || options.onMissing === undefined || !isOneOnly) throw error;
      const isNowhere = error.code === 'NARINFO_MISSING';
      options.onMissing(hash, { path: path ?? baseName, isNowhere, ...failureOf(error) });
      return undefined;
    }
  };

  const run = async (look: () => Promise<void>): Promise<void> => {
    active++;
    await look();
    // oxlint-disable-next-line no-await-in-loop -- others run beside it
    while (begun < waiting.length) await waiting[begun++]?.();
    active--;
    if (active === 0) done.resolve();
  };

  const visit = (hash: StoreHash, referrer: NarInfo | undefined, baseName: string): void => {
    if (seen.has(hash)) return;
    seen.add(hash);
    const look = async (): Promise<void> => {
      if (failure !== undefined) return;
      try {
        signal.throwIfAborted();
        const info = await findOrReport(hash, referrer, baseName);
        if (info === undefined) return;
        closure.set(hash, info);
        options.onNarInfo?.(info);
        if (options.onlyRoots === true) return;
        for (const name of info.references) visit(parseStoreHash(name.slice(0, 32)), info, name);
      } catch (error) {
        failure ??= { error };
        stop.abort(error);
      }
    };
    if (active < concurrency) void run(look);
    else waiting.push(look);
  };
  for (const root of roots) visit(root, undefined, root);
  if (active > 0) await done.promise;
  if (failure !== undefined) throw failure.error;
  return closure;
}

/** Returns the complete part of a closure: without the paths that reach one of `lacking`. */
export function completePart(closure: Closure, lacking: ReadonlySet<StoreHash>): Closure {
  if (lacking.size === 0) return closure;
  const referrers = new Map<StoreHash, StoreHash[]>();
  for (const [hash, info] of closure) {
    for (const name of info.references) {
      const reference = parseStoreHash(name.slice(0, 32));
      const known = referrers.get(reference);
      if (known === undefined) referrers.set(reference, [hash]);
      else known.push(hash);
    }
  }
  const lost = new Set(lacking);
  for (const hash of lost) for (const referrer of referrers.get(hash) ?? []) lost.add(referrer);
  return new Map([...closure].filter(([hash]) => !lost.has(hash)));
}

/** Returns the part of a closure that its roots reach. Another build of a path may have fewer references. */
export function reachedFrom(
  roots: Iterable<StoreHash>,
  closure: Closure,
): { closure: Closure; hashes: Set<StoreHash> } {
  const hashes = new Set(roots);
  for (const hash of hashes)
    for (const name of closure.get(hash)?.references ?? []) hashes.add(parseStoreHash(name.slice(0, 32)));
  return { closure: new Map([...closure].filter(([hash]) => hashes.has(hash))), hashes };
}

export function pathsOf(closure: Closure): StorePath[] {
  return Array.from(closure.values(), ({ storePath }) => storePath);
}

/** Returns the paths that no other path of the closure refers to. Together they reach all of it (except cycles). */
export function topsOf(closure: Closure): StorePath[] {
  const referred = new Set<string>();
  for (const [hash, info] of closure)
    for (const name of info.references) if (!name.startsWith(hash)) referred.add(name.slice(0, 32));
  return [...closure].flatMap(([hash, info]) => (referred.has(hash) ? [] : info.storePath));
}

/** Returns the paths of a closure in an order in which each comes after its references (except cycles). */
export function referencesFirst(closure: Closure): NarInfo[] {
  const ordered: NarInfo[] = [];
  const state = new Map<StoreHash, 'open' | 'done'>();
  for (const root of closure.keys()) {
    const stack: StoreHash[] = [root];
    for (let hash = stack.at(-1); hash !== undefined; hash = stack.at(-1)) {
      const info = closure.get(hash);
      if (info === undefined || state.get(hash) === 'done') {
        stack.pop();
      } else if (state.get(hash) === 'open') {
        state.set(hash, 'done');
        ordered.push(info);
        stack.pop();
      } else {
        state.set(hash, 'open');
        for (const name of info.references) {
          const reference = parseStoreHash(name.slice(0, 32));
          if (!state.has(reference)) stack.push(reference);
        }
      }
    }
  }
  return ordered;
}

function missing(baseName: string, referrer: StorePath | undefined, name = baseName): NarswarmError {
  const why = referrer === undefined ? '' : `, which ${referrer} refers to`;
  return new NarswarmError(
    'NARINFO_MISSING',
    `no neighbour, hash map or cache has a narinfo for ${name}${why}: add the cache that holds it with --from or --publisher; if a neighbour has it, run narswarm doctor`,
    { facts: { path: baseName, ...(referrer === undefined ? {} : { referrer }) } },
  );
}
