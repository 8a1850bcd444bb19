import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { NarHash, StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { hasInterruptedImport } from '../../store/import-folder.ts';
import { Candidates } from './candidates.ts';
import { walkClosure, type Closure, type FindNarInfo, type MissingPath } from './closure.ts';
import { firstTrusted } from './find-narinfo.ts';
import {
  RETRIES_WITH_ALTERNATIVE,
  anyInStore,
  storeSource,
  upstreamSource,
  type NarInfoSource,
} from '../sources/narinfo-sources.ts';
import type { HashMaps } from '../sources/hash-maps.ts';
import type { NearSources } from '../sources/near-sources.ts';
import type { Quorum } from '../../index/quorum.ts';
import type { Roots } from './roots.ts';
import type { Target } from '../plan/target.ts';

/** Sources of narinfos. */
export interface WalkSources {
  readonly store: FileStore;
  /** Returns true for narinfos of the store that count. Default: see {@link storeSource}. */
  readonly isHere?: ((info: NarInfo) => Promise<boolean>) | undefined;
  /** Undefined if nothing is imported. */
  readonly target: Target | undefined;
  readonly maps: HashMaps;
  /** Undefined: no publisher needs to confirm a path. */
  readonly quorum?: Quorum | undefined;
  /** As in a prefetch. */
  readonly narHash?: NarHash | undefined;
  /** Sources on the local network, asked before the upstreams. */
  readonly near: readonly NearSources[];
  /** Upstreams in the order of asking. */
  readonly upstreams: readonly Upstream[];
  readonly http: HttpClient;
  readonly keys: readonly PublicKey[];
  /** True if the caller has other sources to ask than these: then the last upstream gets no more time than the others. */
  readonly othersMayHelp?: boolean;
}

export interface WalkOptions {
  /** True to include only the roots, without their references. */
  readonly onlyRoots: boolean;
  /** True to continue without paths that have no good narinfo; otherwise the walk ends with the first of them. */
  readonly keepGoing: boolean;
  /** True to accept an unsigned narinfo of the file store, if no other source has a signed one. Default: false. */
  readonly trustsStore?: boolean;
  /** Called with each narinfo as soon as its signature is verified, and with its source. */
  readonly onNarInfo?: ((info: NarInfo, source: NarInfoSource | undefined) => void) | undefined;
  readonly signal: AbortSignal;
}

/** Result of a walk. */
export interface Walked {
  readonly closure: Closure;
  /** Paths without a good narinfo. */
  readonly absent: ReadonlyMap<StoreHash, MissingPath>;
  /** Finds further narinfos in the same sources. */
  readonly find: FindNarInfo;
  /** Finds the descriptions of a path in other sources. */
  readonly candidates: Candidates;
}

/**
 * Walks the closure of the roots over all sources.
 *
 * @throws NARINFO_MISSING and others without `keepGoing`; the signal's reason
 */
export async function walk(roots: Roots, from: WalkSources, options: WalkOptions): Promise<Walked> {
  const { onlyRoots, keepGoing, trustsStore = false, onNarInfo, signal } = options;
  const inOrder = await sourcesInOrder(roots, from);
  const last = trustsStore ? [anyInStore(from.store)] : [];
  const sources = (): NarInfoSource[] => [...inOrder(), ...last];
  const origins = new Map<StoreHash, NarInfoSource>();
  const absent = new Map<StoreHash, MissingPath>();
  const find = firstTrusted(sources, from.keys, origins);
  const closure = await walkClosure([...roots.names.keys()], find, {
    signal,
    onlyRoots,
    nameOf: (hash) => roots.names.get(hash),
    onNarInfo: (info) => onNarInfo?.(info, origins.get(storeHashOf(info.storePath))),
    ...(keepGoing && {
      onMissing: (hash, missing) => absent.set(hash, { ...missing, path: roots.names.get(hash) ?? missing.path }),
    }),
  });
  return { closure, absent, find, candidates: new Candidates(sources(), from.keys, origins) };
}

/**
 * Returns the present sources, near ones first. A target over a network is asked only for paths that no cache has. So is
 * any target after an interrupted import: its narinfos do not name the NARs that are left without one in the store.
 */
export async function sourcesInOrder(
  { paths }: Roots,
  { store, isHere, target, maps, quorum, narHash, near, upstreams, http, othersMayHelp = false }: WalkSources,
): Promise<() => NarInfoSource[]> {
  const inTarget = target === undefined ? [] : [target.source(paths)];
  const last = upstreams.length - 1;
  const answered = new AbortController();
  const isTargetLast = target?.isRemote === true || (await hasInterruptedImport(store));
  const here = [await storeSource(store, isHere), ...(isTargetLast ? [] : inTarget), ...maps.ready()];
  const beyond = [
    ...upstreams.map((upstream, index) =>
      noting(
        upstreamSource(
          upstream,
          http,
          index < last || othersMayHelp ? RETRIES_WITH_ALTERNATIVE : undefined,
          store.storeDir,
        ),
        answered,
      ),
    ),
    ...(isTargetLast ? inTarget : []),
    ...maps.awaited(),
    ...near.map((sources) => lastNear(sources, answered.signal)),
  ];
  const all = (): NarInfoSource[] => [...here, ...near.flatMap(({ sources }) => sources), ...beyond];
  if (narHash !== undefined) return mapped(all, (source) => ofBuild(narHash, source));
  return quorum === undefined ? all : mapped(all, (source) => confirmedBy(quorum, source));
}

/** Wraps each source once, since sources are known by their identity. */
function mapped(
  all: () => readonly NarInfoSource[],
  wrap: (source: NarInfoSource) => NarInfoSource,
): () => NarInfoSource[] {
  const wrapped = new Map<NarInfoSource, NarInfoSource>();
  return () =>
    all().map((source) => {
      const known = wrapped.get(source) ?? wrap(source);
      wrapped.set(source, known);
      return known;
    });
}

/** Returns a source that has only one build. Its contents are checked, so it needs no signature. */
function ofBuild(narHash: NarHash, source: NarInfoSource): NarInfoSource {
  return {
    ...source,
    isTrusted: true,
    peek: () => undefined,
    find: async (hash, signal, path) => {
      const info = await source.find(hash, signal, path);
      return info?.narHash === narHash ? info : undefined;
    },
  };
}

/** Returns a source of only those narinfos that the quorum confirms. Paths of the target are already imported. */
function confirmedBy(quorum: Quorum, source: NarInfoSource): NarInfoSource {
  if (source.isTarget === true) return source;
  return {
    ...source,
    peek: () => undefined, // it would not wait for the publishers
    find: async (hash, signal, path) => {
      const info = await source.find(hash, signal, path);
      if (info !== undefined) await quorum.confirm(info, signal);
      return info;
    },
  };
}

/** Aborts `answered` as soon as the source has answered, whether it has the path or not. */
function noting(source: NarInfoSource, answered: AbortController): NarInfoSource {
  return {
    ...source,
    find: async (...question) => {
      const info = await source.find(...question);
      if (!answered.signal.aborted) answered.abort(); // each abort makes an error with a stack
      return info;
    },
  };
}

/**
 * Returns the last source of a path. While no cache has answered, there may never be another source: then it waits
 * longer.
 */
function lastNear({ awaited, lasting }: NearSources, answered: AbortSignal): NarInfoSource {
  if (lasting === undefined) return awaited;
  return {
    ...lasting,
    find: (hash, signal, path) =>
      answered.aborted
        ? awaited.find(hash, signal, path)
        : lasting.find(hash, AbortSignal.any([signal, answered]), path),
  };
}
