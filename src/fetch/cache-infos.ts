/** The `nix-cache-info` of caches, remembered between runs, and the order in which caches are asked. */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { inState } from '../store/state-folder.ts';
import { isNarswarmError } from '../errors.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { parseCacheInfo, type CacheInfo } from '../nix/cache-info.ts';
import type { FileStore } from '../store/file-store.ts';
import { withinMs } from '../within.ts';

const MAX_INFO_BYTES = 64 * 1024;
/** As long as Nix remembers it (src/libstore/nar-info-disk-cache.cc). */
const REMEMBERED_MS = 7 * 24 * 3_600_000;
/** From here on it is asked for again, beside the work, for the next run. */
const FRESH_MS = 24 * 3_600_000;
/** Where nothing is remembered: who has not answered by then is asked last. */
const PATIENCE_MS = 2_000;
/** A cache that says nothing of itself, or nothing yet: Nix would not use it at all. */
const UNKNOWN = Infinity;

const SCHEMA = v.record(
  v.string(),
  v.object({ storeDir: v.string(), wantMassQuery: v.boolean(), priority: v.number(), atMs: v.number() }),
);
type Remembered = v.InferOutput<typeof SCHEMA>;

export interface CacheInfosContext {
  readonly store: Pick<FileStore, 'stateDir' | 'storeDir' | 'replace'>;
  readonly http: Pick<HttpClient, 'getBytes'>;
  readonly signal: AbortSignal;
  readonly onWarning: (message: string) => void;
  readonly now?: () => number;
}

/**
 * Puts caches into the order of their priority as Nix does: lower first, `?priority=` before what nix-cache-info says, as
 * given where it is the same. Caches for another store directory are left out with a warning. A single cache is not asked.
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
      onWarning(`${otherStoreDir(upstream.name, storeDir, store.storeDir)}: it is not asked`);
    return storeDir === store.storeDir;
  });
  return fitting.toSorted((a, b) => compare(rank(a), rank(b)));
}

/** The sentence about a cache whose paths are of another store directory than those that are wanted. */
export function otherStoreDir(name: string, theirs: string, ours: string): string {
  return `${name} is a cache for the store directory ${theirs}, and this is one for ${ours}`;
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b; // two that are unknown are both Infinity
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
    store.replace(file, `${JSON.stringify(remembered, null, 1)}\n`, { mode: 0o600 }).catch(() => undefined);
  if (needed.length > 0) await withinMs(PATIENCE_MS, Promise.allSettled(needed));
  const inTime = new Map(infos);
  if (needed.length > 0) await remember(); // where it cannot be written, the next run asks again
  if (refreshed.length > 0) void Promise.allSettled(refreshed).then(remember);
  return inTime;
}

/**
 * Asks a cache for its nix-cache-info.
 *
 * @param isRemembered whether what it said before still holds: then a failure changes nothing
 * @returns undefined if it cannot be had: that is said where it matters, by what it fails to deliver
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
    const wayOut = upstream.isLocal ? ': is it there, is it mounted?' : ', and is asked after the other caches';
    onWarning(`${upstream.name} has no nix-cache-info${wayOut}`);
  } catch (error) {
    // The end of the run ends this, too.
    if (!signal.aborted && !isRemembered && isNarswarmError(error) && error.code !== 'INTERRUPTED')
      onWarning(`${upstream.name} is asked after the other caches: ${error.message}`);
  }
  return undefined;
}

/** A file that is damaged counts as none. */
async function readRemembered(file: string): Promise<Remembered> {
  try {
    return v.parse(SCHEMA, JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return {};
  }
}

/** The address may hold a password, the name that is shown does not. */
function keyOf({ name }: Upstream): string {
  return createHash('sha256').update(name).digest('hex');
}
