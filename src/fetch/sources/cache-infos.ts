/** The `nix-cache-info` of caches, which are remembered between runs, and the order in which caches are asked. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { inState } from '../../store/state-folder.ts';
import { isNarswarmError } from '../../errors.ts';
import type { HttpClient } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { parseCacheInfo, type CacheInfo } from '../../nix/cache-info.ts';
import type { FileStore } from '../../store/file-store.ts';
import { withinMs } from '../../within.ts';
import type { Warn } from '../../warning.ts';
import { replaceFile } from '../../disk/replace.ts';

const MAX_INFO_BYTES = 64 * 1024;
/** Lifetime of a remembered answer, as in Nix (src/libstore/nar-info-disk-cache.cc). */
const REMEMBERED_MS = 7 * 24 * 3_600_000;
/** Age at which it is requested again, in the background, for the next run. */
const FRESH_MS = 24 * 3_600_000;
/** Time for caches without a remembered answer. Silent ones are then asked last. */
const PATIENCE_MS = 2_000;
/** Priority of a cache that has not announced one. Nix would not use such a cache. */
const UNKNOWN = Infinity;

const SCHEMA = v.record(
  v.string(),
  v.object({ storeDir: v.string(), wantMassQuery: v.boolean(), priority: v.number(), atMs: v.number() }),
);
type Remembered = v.InferOutput<typeof SCHEMA>;

export interface CacheInfosContext {
  readonly store: Pick<FileStore, 'stateDir' | 'storeDir'>;
  readonly http: Pick<HttpClient, 'getBytes'>;
  readonly signal: AbortSignal;
  readonly onWarning: Warn;
  readonly now?: () => number;
}

/**
 * Sorts caches by priority as Nix does: lower first, `?priority=` before nix-cache-info, otherwise in the given order.
 * Leaves out caches for another store directory, with a warning. If there is only one cache, does not ask it.
 *
 * @throws the signal's reason
 */
export async function orderUpstreams(
  upstreams: readonly Upstream[],
  context: CacheInfosContext,
): Promise<readonly Upstream[]> {
  if (upstreams.length < 2 && upstreams[0]?.isLocal !== true) return upstreams;
  const { store, signal, onWarning } = context;
  const infos = await infosOf(upstreams, context);
  signal.throwIfAborted();
  const rank = (upstream: Upstream): number => upstream.priority ?? infos.get(upstream)?.priority ?? UNKNOWN;
  const fitting = upstreams.filter((upstream) => {
    const storeDir = infos.get(upstream)?.storeDir ?? store.storeDir;
    if (storeDir !== store.storeDir)
      onWarning({ kind: 'other-store-dir', cache: upstream.name, theirs: storeDir, ours: store.storeDir });
    return storeDir === store.storeDir;
  });
  return fitting.toSorted((a, b) => compare(rank(a), rank(b)));
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b; // two unknown ones are both Infinity
}

async function infosOf(
  upstreams: readonly Upstream[],
  context: CacheInfosContext,
): Promise<ReadonlyMap<Upstream, CacheInfo>> {
  const { store, now = Date.now } = context;
  const file = inState(store, 'caches.json');
  const remembered = await readRemembered(file);
  const infos = new Map<Upstream, CacheInfo>();
  const needed: Promise<void>[] = [];
  const refreshed: Promise<void>[] = [];
  for (const upstream of upstreams) {
    const known = remembered[keyOf(upstream)];
    const ageMs = known === undefined ? Infinity : Math.abs(now() - known.atMs);
    if (known !== undefined && ageMs < REMEMBERED_MS) infos.set(upstream, known);
    if (ageMs < FRESH_MS && !upstream.isLocal) continue;
    const isRemembered = ageMs < REMEMBERED_MS;
    const asking = ask(upstream, isRemembered, context).then((info) => {
      if (info === undefined) return;
      remembered[keyOf(upstream)] = { ...info, atMs: now() };
      infos.set(upstream, info);
    });
    (isRemembered ? refreshed : needed).push(asking);
  }
  const remember = (): Promise<void> =>
    replaceFile(file, `${JSON.stringify(remembered, null, 1)}\n`, { mode: 0o600 }).catch(() => undefined);
  if (needed.length > 0) await withinMs(PATIENCE_MS, Promise.allSettled(needed));
  const inTime = new Map(infos);
  if (needed.length > 0) await remember(); // if this cannot be written, the next run asks again
  if (refreshed.length > 0) void Promise.allSettled(refreshed).then(remember);
  return inTime;
}

/**
 * Asks a cache for its nix-cache-info.
 *
 * @param isRemembered true if an earlier answer is still valid: then a failure changes nothing
 * @returns undefined if it cannot be fetched; a failure that matters is reported with the NARs
 */
async function ask(
  upstream: Upstream,
  isRemembered: boolean,
  { http, signal, onWarning }: CacheInfosContext,
): Promise<CacheInfo | undefined> {
  try {
    const bytes = await http.getBytes(upstream.infoUrl, {
      maxBytes: MAX_INFO_BYTES,
      retries: 0,
      givesWay: true,
      signal,
    });
    if (bytes !== undefined) return parseCacheInfo(new TextDecoder().decode(bytes));
    onWarning({ kind: 'no-cache-info', cache: upstream.name, isLocal: upstream.isLocal });
  } catch (error) {
    // The end of the run aborts this request, too.
    if (!signal.aborted && !isRemembered && isNarswarmError(error) && error.code !== 'INTERRUPTED')
      onWarning({ kind: 'asked-last', cache: upstream.name, error });
  }
  return undefined;
}

/** Reads the remembered answers. A damaged file counts as absent. */
async function readRemembered(file: string): Promise<Remembered> {
  try {
    return v.parse(SCHEMA, JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return {};
  }
}

/** Returns the key of a cache. Its name is used, since its address may contain a password. */
function keyOf({ name }: Upstream): string {
  return createHash('sha256').update(name).digest('hex');
}
