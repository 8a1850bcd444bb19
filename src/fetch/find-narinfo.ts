import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import { asFileHash } from '../nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { isWithoutNar } from '../nix/path-info.ts';
import type { PublicKey } from '../nix/signature.ts';
import { admitNarInfo } from '../nix/sound-remarks.ts';
import { storeDirOf } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { withinMs } from '../within.ts';
import type { FindNarInfo } from './closure.ts';
import { withSafeUrl } from './named-file.ts';

const MAX_NARINFO_BYTES = 4 * 1024 * 1024;
/** Extra attempts at an upstream while another one can be asked. */
export const RETRIES_WITH_ALTERNATIVE = 1;

/** Silence of a source in milliseconds after which the next one is asked, too. */
const PATIENCE_MS = 2_000;

/**
 * One error for all aborts: an abort without a reason makes a DOMException with a stack, which takes a tenth of a
 * narinfo's time.
 */
const OVERTAKEN = new Error('another source has answered');

/** Errors of a source that would occur for the next path, too. */
const DOWN = ['HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED', 'INDEX_UNREACHABLE'] as const;

/** A source of narinfos: the file store, a hash map, an upstream cache. */
export interface NarInfoSource {
  /** Its name in errors and reports. */
  readonly name: string;
  /** True if it is reached over a network: then the next source is asked, too, if this one is silent. */
  readonly mayStall?: boolean;
  /**
   * Milliseconds of silence after which the next source is asked, too. Default: 2,000. With 0 it is asked at the same
   * time as the next one, and does not count as slow.
   */
  readonly patienceMs?: number;
  /** The cache with the files of its narinfos. Undefined if any upstream may have them. */
  readonly upstream?: Upstream;
  /** True for the store that is imported into: its paths need no signature. */
  readonly isTarget?: boolean;
  /** True if its narinfos need no signature, since Nix is told to trust it. */
  readonly isTrusted?: boolean;
  /**
   * Returns the narinfo if it is known without asking; `absent` if there is none. Undefined if the source must be
   * asked.
   */
  peek?(hash: StoreHash): NarInfo | 'absent' | undefined;
  /** @param path the whole path, if known */
  find(hash: StoreHash, signal: AbortSignal, path?: StorePath): Promise<NarInfo | undefined>;
}

/**
 * Asks sources in order until one has a narinfo with a trusted signature. An unsigned, wrongly signed or misplaced
 * narinfo counts as a lie of its source: then the next source is asked. Drops wrong remarks ({@link admitNarInfo}). A
 * source that fails, or is silent while another one answers, is asked last from then on. Otherwise a closure would wait
 * for it at every path.
 *
 * @param sources returns the present sources, since some come and go
 * @param origins receives the source of each narinfo
 * @throws the first lie or failure if no source had a good narinfo
 */
export function firstTrusted(
  sources: () => readonly NarInfoSource[],
  keys: readonly PublicKey[],
  origins?: Map<StoreHash, NarInfoSource>,
): FindNarInfo {
  const down = new Set<NarInfoSource>();
  return async (hash, signal, path) => {
    let failure: unknown;
    const all = sources();
    const queue = [...all.filter((one) => !down.has(one)), ...all.filter((one) => down.has(one))];
    const atHand = firstAtHand(queue, keys, hash);
    if (atHand !== undefined) {
      origins?.set(hash, atHand.source);
      return atHand.info;
    }
    const mayOvertake = queue.slice(0, -1).some(({ mayStall }) => mayStall === true);
    const overtaken = mayOvertake ? new AbortController() : undefined;
    const linked = overtaken === undefined ? signal : AbortSignal.any([signal, overtaken.signal]);
    const asked = new Map<NarInfoSource, Promise<Answer>>();
    while (queue.length + asked.size > 0) {
      const next = queue.shift();
      if (next !== undefined) asked.set(next, ask(next, { hash, path }, keys, linked));
      const hurries = next?.mayStall === true && queue.length > 0;
      const answer = await firstOf([...asked.values()], hurries ? (next.patienceMs ?? PATIENCE_MS) : undefined);
      if (answer === undefined) continue;
      const { source, info, error } = answer;
      asked.delete(source);
      if (info !== undefined) {
        for (const silent of asked.keys()) if (silent.mayStall === true && silent.patienceMs !== 0) down.add(silent);
        if (asked.size > 0) overtaken?.abort(OVERTAKEN);
        origins?.set(hash, source);
        return info;
      }
      if (error === undefined) continue;
      signal.throwIfAborted();
      if (isNarswarmError(error, ...DOWN)) down.add(source);
      failure ??= named(error, hash, source);
    }
    if (failure !== undefined) throw failure;
    return undefined;
  };
}

/**
 * Returns the first trusted narinfo if all sources before it are known not to have one. Asks nobody. Undefined
 * otherwise, also if the narinfo is wrong: then the sources are asked, and report failures.
 */
function firstAtHand(
  sources: readonly NarInfoSource[],
  keys: readonly PublicKey[],
  hash: StoreHash,
): { readonly source: NarInfoSource; readonly info: NarInfo } | undefined {
  try {
    for (const source of sources) {
      const found = source.isTarget === true ? undefined : source.peek?.(hash);
      if (found === undefined) return undefined;
      if (found !== 'absent') return { source, info: admitNarInfo(found, keys, hash, source.isTrusted !== true) };
    }
  } catch {
    // The same failure occurs when the sources are asked.
  }
  return undefined;
}

/** The answer of a source about a path: a trusted narinfo, nothing, or a failure. */
export interface Answer {
  readonly source: NarInfoSource;
  readonly info?: NarInfo | undefined;
  readonly error?: unknown;
}

/** Asks one source about a path. Never throws. */
export async function ask(
  source: NarInfoSource,
  { hash, path }: { readonly hash: StoreHash; readonly path: StorePath | undefined },
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Answer> {
  try {
    const info = await source.find(hash, signal, path);
    if (info === undefined || source.isTarget === true) return { source, info };
    return { source, info: admitNarInfo(info, keys, hash, source.isTrusted !== true) };
  } catch (error) {
    return { source, error };
  }
}

/** Returns the first promise that settles. Undefined if none does within that time. */
function firstOf<T>(promises: readonly Promise<T>[], patienceMs: number | undefined): Promise<T | undefined> {
  const first = Promise.race(promises);
  return patienceMs === undefined ? first : withinMs(patienceMs, first);
}

/** Returns a source of the narinfos in the file store. Lists the store once, since it lacks most of a new closure. */
export async function storeSource(store: FileStore): Promise<NarInfoSource> {
  const held = new Set(await store.listStoreHashes());
  return {
    name: store.dir,
    peek: (hash) => (held.has(hash) ? undefined : 'absent'),
    async find(hash) {
      const info = held.has(hash) ? await store.readNarInfo(hash) : undefined;
      return info === undefined || isWithoutNar(info) ? undefined : info; // the target may still have the path
    },
  };
}

/**
 * Returns a source of the narinfos of a binary cache.
 *
 * @param retries limit on retries. Set if another source can be asked: then this one also gets less time
 * @param storeDir the store directory that the paths must be in. Default: any
 */
export function upstreamSource(
  upstream: Upstream,
  http: HttpClient,
  retries?: number,
  storeDir?: string,
): NarInfoSource {
  return {
    name: upstream.name,
    mayStall: true,
    upstream,
    isTrusted: upstream.isTrusted,
    async find(hash, signal) {
      const givesWay = retries !== undefined;
      const { isAnnounced } = upstream;
      const options = { maxBytes: MAX_NARINFO_BYTES, signal, retries, givesWay, isAnnounced };
      const bytes = await http.getBytes(upstream.narInfoUrl(hash), options);
      if (bytes === undefined) return undefined;
      const info = asOfCache(parseNarInfo(new TextDecoder().decode(bytes)));
      const theirs = storeDirOf(info.storePath);
      if (storeDir === undefined || theirs === storeDir) return isAnnounced ? withSafeUrl(info) : info;
      const wayOut = `set NIX_STORE_DIR=${theirs}, with a file store of its own (--store)`;
      throw new NarswarmError(
        'CACHE_INFO_INVALID',
        `${upstream.name} is a cache for the store directory ${theirs}, and ours is ${storeDir}: ${wayOut}`,
        {
          facts: { upstream: upstream.name, theirs, ours: storeDir },
        },
      );
    },
  };
}

/**
 * Reads the narinfo of a cache, which names no torrents. An uncompressed file is the NAR itself, so FileHash and
 * FileSize are set to NarHash and NarSize: nix-serve and others that compress nothing leave them out.
 */
function asOfCache(info: NarInfo): NarInfo {
  if (info.extra.length > 0) return asOfCache({ ...info, extra: [] });
  if (info.compression !== 'none') return info;
  return { ...info, fileHash: asFileHash(info.narHash), fileSize: info.narSize };
}

function named(error: unknown, hash: StoreHash, source: NarInfoSource): unknown {
  if (!isNarswarmError(error, 'NARINFO_INVALID', 'NARINFO_UNTRUSTED', 'NARINFO_MISMATCH')) return error;
  // An unreadable narinfo does not name its path.
  const what = error.code === 'NARINFO_INVALID' ? `${hash}.narinfo: ` : '';
  const { why } = error.facts;
  return new NarswarmError(error.code, `${what}${error.message} (from ${source.name})`, {
    cause: error,
    facts: {
      ...error.facts,
      source: source.name,
      ...(typeof why === 'string' && { why: `${why} (from ${source.name})` }),
    },
  });
}
