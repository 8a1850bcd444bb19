import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import PQueue from 'p-queue';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { StoreHash, StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { copyClosure, queryInvalidPaths } from '../nix/nix-cli.ts';
import type { PublicKey } from '../nix/signature.ts';
import { parseStoreHash, parseStorePath, storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue.ts';
import { FileStore } from '../store/file-store.ts';
import { isSameNar } from '../store/hash-nar.ts';
import { hashContents } from '../store/nar-hash.ts';
import type { PartialSession } from '../store/session.ts';
import { storeError } from '../store/store-error.ts';
import { extensionOf, type NarTorrent } from '../torrent/canonical.ts';
import type { Network } from '../torrent/network.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import type { Closure } from './closure.ts';
import { commit } from './commit.ts';
import { firstTrusted, upstreamSource } from './find-narinfo.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { attachTorrents, planFetch, type Plan } from './plan.ts';
import type { Progress } from './report.ts';
import { Scheduler } from './scheduler.ts';

/** What an import works with. */
interface ImportContext {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Absent: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpClient;
  readonly upstreams: readonly Upstream[];
  readonly keys: readonly PublicKey[];
  /** The torrent that a hash map has for a NAR. */
  readonly torrentOf: (info: NarInfo) => Promise<NarTorrent | undefined>;
  readonly limit?: RateLimit | undefined;
  /** Without an upstream: milliseconds that may pass without a byte from any peer. Default 60,000. */
  readonly peerTimeoutMs?: number | undefined;
  /** Target; undefined: the default store of this machine. */
  readonly to?: string | undefined;
  /** Keys that the user named, as text, for `nix copy`. */
  readonly trustedPublicKeys: readonly string[];
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** A line that `nix copy` printed. */
  readonly onNixLine?: (line: string) => void;
}

/** What was fetched: an import that fails is mended by it. */
interface Fetched {
  readonly closure: Closure;
  readonly plan: Plan;
  /** Which source each narinfo came from. */
  readonly origins: ReadonlyMap<StoreHash, string>;
}

/** What an import fails of that no other bytes would mend. */
const NOT_OF_CONTENTS =
  /no space left on device|permission denied|read-only file system|cannot connect|not permitted|valid signature/i;
/** NARs decompressed at a time, in a search for the one that Nix refuses. */
const CONCURRENCY = availableParallelism();

/**
 * Imports with `nix copy`. Where Nix refuses the contents of a NAR, it is fetched once more: where the file is not the one
 * that was verified, the disk is to blame; where it is, its narinfo lied about FileHash, and what an upstream's own narinfo
 * says is tried. Somebody else who imports the same at the same time makes Nix fail, too: it is run again as long as
 * that brings anything.
 *
 * @throws IMPORT_FAILED in Nix's own words, naming the source of the narinfo where a path has other contents
 */
export async function importRoots(
  roots: readonly StorePath[],
  fetched: Fetched,
  context: ImportContext,
): Promise<void> {
  const { store, signal } = context;
  const paths = Array.from(fetched.closure.values(), ({ storePath }) => storePath);
  const mended = new Set<StorePath>();
  let lacking = Infinity;
  for (;;) {
    try {
      await copyClosure({
        from: `file://${store.dir}`,
        to: context.to,
        paths: roots,
        trustedPublicKeys: context.trustedPublicKeys,
        signal,
        ...(context.onNixLine === undefined ? {} : { onLine: context.onNixLine }),
      });
      return;
    } catch (error) {
      signal.throwIfAborted(); // Ctrl-C ends Nix, too, before anybody else does
      if (!isNarswarmError(error, 'IMPORT_FAILED') || NOT_OF_CONTENTS.test(error.message)) throw error;
      if (await refetchDamaged(fetched, context)) continue;
      const named = typeof error.facts['path'] === 'string' ? [parseStorePath(error.facts['path'])] : undefined;
      const invalid = await queryInvalidPaths(paths, context.to, { signal }).catch(() => Promise.reject(error));
      const isFurther = invalid.size < lacking;
      lacking = invalid.size;
      if (named === undefined && isFurther) continue;
      const refused = named ?? (await refusedOf(fetched.closure, invalid, context));
      const fresh = refused.filter((path) => !mended.has(path));
      if (fresh.length === 0) throw error;
      for (const path of fresh) {
        mended.add(path);
        await mend(path, error, fetched, context);
      }
    }
  }
}

/** Of the paths that Nix lacks, those whose NAR has not the signed contents; only of what it would import next. */
async function refusedOf(
  closure: Closure,
  invalid: ReadonlySet<StorePath>,
  { store, signal }: ImportContext,
): Promise<StorePath[]> {
  const isLacking = (hash: StoreHash): boolean => {
    const path = closure.get(hash)?.storePath;
    return path !== undefined && invalid.has(path);
  };
  const next = Array.from(closure).filter(
    ([hash, { references }]) =>
      isLacking(hash) &&
      !references.some((name) => !name.startsWith(hash) && isLacking(parseStoreHash(name.slice(0, 32)))),
  );
  const refused: StorePath[] = [];
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const look = async (info: NarInfo): Promise<void> => {
    const local = await store.readNarInfoOf(info.storePath);
    if (local === undefined) return;
    try {
      const found = await hashContents(store.narPath(local), local.compression, info.narSize, signal);
      if (found.narHash !== info.narHash || found.narSize !== info.narSize) refused.push(info.storePath);
    } catch (error) {
      if (!isNarswarmError(error, 'HASH_MISMATCH')) throw error;
      refused.push(info.storePath);
    }
  };
  await queue.addAll(
    next.map(
      ([, info]) =>
        () =>
          look(info),
    ),
  );
  return refused;
}

/** Fetches a NAR of other contents as an upstream's own narinfo has it. @throws IMPORT_FAILED where none has another */
async function mend(path: StorePath, cause: NarswarmError, fetched: Fetched, context: ImportContext): Promise<void> {
  const hash = storeHashOf(path);
  const info = fetched.closure.get(hash);
  const origin = fetched.origins.get(hash) ?? 'an unknown source';
  const upstream = info === undefined ? undefined : await refetchAsUpstreamSays(info, context);
  if (upstream === undefined) {
    throw new NarswarmError(
      'IMPORT_FAILED',
      `${cause.message} (the NAR of ${path} has not the contents that were signed; its narinfo came from ${origin})`,
      { cause, facts: { ...cause.facts, path, source: origin } },
    );
  }
  context.progress.onWarning(
    `the NAR of ${path} has not the contents that were signed: its narinfo, from ${origin}, had a wrong FileHash; it came from ${upstream} once more`,
  );
}

/** Fetches anew those NARs that lay in the store and are not what was once verified. False where all are right. */
async function refetchDamaged({ plan }: Fetched, context: ImportContext): Promise<boolean> {
  const { store, progress } = context;
  const damaged: NarInfo[] = [];
  for (const info of plan.inStore) {
    const { fileHash, fileSize: sizeBytes } = info;
    if (fileHash === undefined || sizeBytes === undefined) continue;
    const path = store.narPath({ ...info, url: FileStore.narUrl(fileHash, extensionOf(info.compression)) });
    if (await isSameNar(path, { fileHash, sizeBytes })) continue;
    damaged.push(info);
    // narswarm verify may have put it into quarantine by now
    await rm(path, { force: true }).catch((error: unknown) => Promise.reject(storeError(error, path)));
    progress.onWarning(`${path} was damaged; fetching ${info.storePath} again`);
  }
  if (damaged.length === 0) return false;
  await fetchAnew(damaged, context);
  return true;
}

/** Fetches one NAR as an upstream's own narinfo describes it. The upstream's URL, or undefined where none differs. */
async function refetchAsUpstreamSays(info: NarInfo, context: ImportContext): Promise<string | undefined> {
  const { http, keys, signal } = context;
  for (const upstream of context.upstreams) {
    const source = upstreamSource(upstream, http);
    const own = await firstTrusted([source], keys)(storeHashOf(info.storePath), signal).catch((error: unknown) => {
      if (signal.aborted || !isNarswarmError(error)) throw error;
      return undefined; // the next may have it
    });
    if (own?.fileHash === undefined || own.fileHash === info.fileHash) continue;
    await fetchAnew([own], { ...context, network: undefined, upstreams: [upstream] });
    return source.name;
  }
  return undefined;
}

async function fetchAnew(infos: readonly NarInfo[], context: ImportContext): Promise<void> {
  const { store, signal, network, torrentOf } = context;
  const alone: Closure = new Map(infos.map((info) => [storeHashOf(info.storePath), info]));
  const catalogue = await Catalogue.open(store);
  const plan = await planFetch(alone, { store, catalogue, needed: undefined, signal });
  if (network !== undefined) await attachTorrents(plan.jobs, torrentOf);
  const { peerTimeoutMs: standstillMs, progress: observer } = context;
  await new Scheduler({ ...context, standstillMs, observer }).run(plan.jobs, signal);
  await commit(infos, [...plan.jobs, ...plan.verified], store);
}
