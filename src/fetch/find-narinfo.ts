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
import { otherStoreDir } from './cache-infos.ts';
import type { FindNarInfo } from './closure.ts';

const MAX_NARINFO_BYTES = 4 * 1024 * 1024;
/** Extra attempts at an upstream while there is another one to turn to. */
export const RETRIES_WITH_ALTERNATIVE = 1;

/** Silence of a source, in milliseconds, after which the next one is asked as well. */
const PATIENCE_MS = 2_000;

/** One for all: an abort without a reason makes a DOMException with a stack, a tenth of what a narinfo costs. */
const OVERTAKEN = new Error('another source has answered');

/** What a source fails of that would fail for the next path, too. */
const DOWN = ['HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED', 'INDEX_UNREACHABLE'] as const;

/** A place that narinfos come from: the file store, a hash map, an upstream cache. */
export interface NarInfoSource {
  /** Named in errors and reports. */
  readonly name: string;
  /** Whether it is over a network, so that its silence is a reason to ask the next one as well. */
  readonly mayStall?: boolean;
  /** Milliseconds of that silence. Default: 2,000. */
  readonly patienceMs?: number;
  /** The cache that holds the files which its narinfos describe; absent where any upstream may. */
  readonly upstream?: Upstream;
  /** Whether it is the store that is imported into: what that holds needs no signature. */
  readonly isTarget?: boolean;
  /** Whether its narinfos need no signature: Nix is told to trust it. */
  readonly isTrusted?: boolean;
  /** @param path the whole path, where it is known */
  find(hash: StoreHash, signal: AbortSignal, path?: StorePath): Promise<NarInfo | undefined>;
}

/**
 * Asks sources in their order until one has a narinfo with a signature that this machine trusts. One that is
 * unsigned, wrongly signed or for another path counts as a lie of that source: the next is asked. Remarks that are wrong
 * are left out of it ({@link admitNarInfo}). A source that is
 * down, or silent while another one answers, is asked last from then on, or a closure would wait for it once a path.
 *
 * @param sources gives those that there are now: some come and go
 * @param origins takes the source that each narinfo came from
 * @throws the first lie or failure where no source had a good one
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
        for (const silent of asked.keys()) if (silent.mayStall === true) down.add(silent);
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

/** What a source said of a path: a narinfo that is trusted, nothing, or what it failed of. */
export interface Answer {
  readonly source: NarInfoSource;
  readonly info?: NarInfo | undefined;
  readonly error?: unknown;
}

/** Asks one source of a path. Never throws. */
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

/** The first to settle, or undefined where none has in that time. */
function firstOf<T>(promises: readonly Promise<T>[], patienceMs: number | undefined): Promise<T | undefined> {
  const first = Promise.race(promises);
  return patienceMs === undefined ? first : withinMs(patienceMs, first);
}

/** The narinfos that the file store holds now: it is listed once, since most of a new closure is not there. */
export async function storeSource(store: FileStore): Promise<NarInfoSource> {
  const held = new Set(await store.listStoreHashes());
  return {
    name: store.dir,
    async find(hash) {
      const info = held.has(hash) ? await store.readNarInfo(hash) : undefined;
      return info === undefined || isWithoutNar(info) ? undefined : info; // the target tells whether it still has that
    },
  };
}

/**
 * The narinfos of a binary cache.
 *
 * @param retries given where another one can be asked: then this one has little time, too
 * @param storeDir the store directory that the paths have to be of; default: any
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
      const options = { maxBytes: MAX_NARINFO_BYTES, signal, retries, givesWay };
      const bytes = await http.getBytes(upstream.narInfoUrl(hash), options);
      if (bytes === undefined) return undefined;
      const info = asOfCache(parseNarInfo(new TextDecoder().decode(bytes)));
      const theirs = storeDirOf(info.storePath);
      if (storeDir === undefined || theirs === storeDir) return info;
      const wayOut = `set NIX_STORE_DIR=${theirs}, with a file store of its own (--store)`;
      throw new NarswarmError('CACHE_INFO_INVALID', `${otherStoreDir(upstream.name, theirs, storeDir)}: ${wayOut}`, {
        facts: { upstream: upstream.name, theirs, ours: storeDir },
      });
    },
  };
}

/**
 * The narinfo of a cache, which names no torrents. A file that is not compressed is the NAR itself, so FileHash and
 * FileSize are NarHash and NarSize, whatever the narinfo says: nix-serve and others that compress nothing leave them out.
 */
function asOfCache(info: NarInfo): NarInfo {
  if (info.extra.length > 0) return asOfCache({ ...info, extra: [] });
  if (info.compression !== 'none') return info;
  return { ...info, fileHash: asFileHash(info.narHash), fileSize: info.narSize };
}

function named(error: unknown, hash: StoreHash, source: NarInfoSource): unknown {
  if (!isNarswarmError(error, 'NARINFO_INVALID', 'NARINFO_UNTRUSTED', 'NARINFO_MISMATCH')) return error;
  // one that cannot be read does not say whose it is
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
