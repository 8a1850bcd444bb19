import PQueue from 'p-queue';
import { NarswarmError, isNarswarmError, type ErrorCode } from '../errors.ts';
import { failureOf, type Failure } from '../failure.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { parseStoreHash, storeDirOf, storePathFromBaseName } from '../nix/store-path.ts';

/** Narinfos asked for at once: a round trip of 50 ms then costs 800 narinfos less than a second. */
const CONCURRENCY = 64;

/** What a lookup fails of that would fail for every other path, too. */
const OF_ALL_PATHS: ReadonlySet<ErrorCode> = new Set(['STORE_FULL', 'STORE_UNWRITABLE', 'INTERRUPTED']);

/** Finds the narinfo of a store hash and vouches for its signature; undefined where no source has it. */
export type FindNarInfo = (
  hash: StoreHash,
  signal: AbortSignal,
  /** The whole path, where something refers to it. */
  path?: StorePath,
) => Promise<NarInfo | undefined>;

/** A closure: every path that the roots reach, roots first, breadth first. */
export type Closure = ReadonlyMap<StoreHash, NarInfo>;

/** A path that could not be had, and why. */
export interface MissingPath extends Failure {
  readonly path: string;
  /** True if every source was asked and none has it; otherwise one of them failed, and may have it another time. */
  readonly isNowhere: boolean;
}

/**
 * Walks narinfo `References` breadth-first from the roots. Each narinfo is asked for once, whatever refers to it;
 * cycles and self-references end by themselves.
 *
 * @throws NARINFO_MISSING, naming the path and what refers to it; whatever `find` throws
 */
export async function walkClosure(
  roots: readonly StoreHash[],
  find: FindNarInfo,
  options: {
    signal?: AbortSignal;
    concurrency?: number;
    /** Narinfos that are known already: neither asked for nor in the result. */
    known?: Closure;
    /** Takes in the roots alone, and nothing that they refer to. */
    onlyRoots?: boolean;
    onNarInfo?: (info: NarInfo) => void;
    /** Told of a path without a good narinfo; the walk goes on. Without this it ends there. */
    onMissing?: (hash: StoreHash, missing: MissingPath) => void;
  } = {},
): Promise<Closure> {
  const closure = new Map<StoreHash, NarInfo>();
  const seen = new Set<StoreHash>(options.known?.keys());
  const queue = new PQueue({ concurrency: options.concurrency ?? CONCURRENCY });
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  let failure: { error: unknown } | undefined;

  const findOrReport = async (hash: StoreHash, referrer: NarInfo | undefined, baseName: string) => {
    const path = referrer && storePathFromBaseName(baseName, storeDirOf(referrer.storePath));
    try {
      const info = await find(hash, signal, path);
      if (info === undefined) throw missing(baseName, referrer?.storePath);
      return info;
    } catch (error) {
      const isOneOnly = isNarswarmError(error) && !OF_ALL_PATHS.has(error.code);
      if (signal.aborted || options.onMissing === undefined || !isOneOnly) throw error;
      const isNowhere = error.code === 'NARINFO_MISSING';
      options.onMissing(hash, { path: path ?? baseName, isNowhere, ...failureOf(error) });
      return undefined;
    }
  };

  const visit = (hash: StoreHash, referrer: NarInfo | undefined, baseName: string): void => {
    if (seen.has(hash)) return;
    seen.add(hash);
    void queue.add(async () => {
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
    });
  };
  for (const root of roots) visit(root, undefined, root);
  await queue.onIdle();
  if (failure !== undefined) throw failure.error;
  return closure;
}

/**
 * The part of a closure that is there in full: without the paths that reach one of `lacking`.
 */
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

/** The part of a closure that its roots reach: another build of a path may refer to less than the one before. */
export function reachedFrom(
  roots: Iterable<StoreHash>,
  closure: Closure,
): { closure: Closure; hashes: Set<StoreHash> } {
  const hashes = new Set(roots);
  for (const hash of hashes)
    for (const name of closure.get(hash)?.references ?? []) hashes.add(parseStoreHash(name.slice(0, 32)));
  return { closure: new Map([...closure].filter(([hash]) => hashes.has(hash))), hashes };
}

/** The paths of a closure that no other path of it refers to: together they reach all of it (circles aside). */
export function topsOf(closure: Closure): StorePath[] {
  const referred = new Set<string>();
  for (const [hash, info] of closure)
    for (const name of info.references) if (!name.startsWith(hash)) referred.add(name.slice(0, 32));
  return [...closure].flatMap(([hash, info]) => (referred.has(hash) ? [] : info.storePath));
}

/** The paths of a closure in an order in which each comes after all that it refers to (cycles aside). */
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

function missing(baseName: string, referrer: StorePath | undefined): NarswarmError {
  const why = referrer === undefined ? '' : `, which ${referrer} refers to`;
  return new NarswarmError(
    'NARINFO_MISSING',
    `no hash map and no cache has a narinfo of ${baseName}${why}: add the cache that holds it with --from or --publisher`,
    { facts: { path: baseName, ...(referrer === undefined ? {} : { referrer }) } },
  );
}
