import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { DhtNode } from '../discovery/dht.ts';
import type { PeerRecord } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { Network } from '../swarm/network.ts';
import { formatPublisherAddress, mapFolder, type PublisherAddress } from './address.ts';
import { cohortInfoHash } from './cohort-key.ts';
import { EditionClaims } from './edition-claims.ts';
import { HashMap, type HashMapOptions, type IndexSource } from './hash-map.ts';
import { IndexDir } from './index-dir.ts';
import { MANIFEST_NAME } from './index-torrent.ts';
import { MemberFiles } from './member-files.ts';
import { PeerSource } from './peer-source.ts';
import { askUntilFound, untilNewer, type Pointer } from './pointer.ts';
import { MAX_MANIFEST_BYTES } from './limits.ts';
import type { Manifest } from './manifest.ts';
import { acceptManifest, readKept, verified, type Verified } from './verified-manifest.ts';
import { asError, type Warn } from '../warning.ts';

/** Time for the DHT to find its first node before an edition is read that a member of the cohort claims to hold. */
const ISOLATED_MS = 2_000;
/** Part of the whole time for a DHT that has nodes: it knows which edition is the newest, a member may not. */
const DHT_PART = 0.7;
/** Time for a member to send the manifest of the edition that it claims to hold. */
const MEMBER_TIMEOUT_MS = 5_000;

/** Fetches a small file over HTTP. Undefined if it does not exist. */
export type GetBytes = (
  url: string,
  options: { maxBytes: number; signal: AbortSignal },
) => Promise<Uint8Array | undefined>;

export interface ResolveContext {
  /** Undefined: magnet addresses cannot be resolved, only mirrors and kept editions. */
  readonly network: Network | undefined;
  readonly getBytes: GetBytes;
  /** Folder of the hash maps of all publishers, each with the highest seq seen. */
  readonly dir: string;
  readonly now: Date;
  /** Time to look for the newest edition before a kept one is used. */
  readonly timeoutMs: number;
  /** Time to wait for a shard that nobody serves. Default: 10 s. */
  readonly shardTimeoutMs?: number;
  readonly signal: AbortSignal;
  readonly onWarning?: Warn;
  /** True to read the edition of a member if the DHT does not answer. A daemon listens to members by itself. */
  readonly asksMembers?: boolean;
}

/** A resolved hash map, and the resources of its source. */
export interface Resolved extends AsyncDisposable {
  readonly map: HashMap;
  /** `network`: just fetched or confirmed. `kept`: an earlier edition that has not expired. */
  readonly from: 'network' | 'kept';
  /** The reason why it is a kept edition and not the newest. */
  readonly failure?: unknown;
}

/** One attempt. `signal` ends it at the deadline; `lifetime` is the signal of the run. */
interface Attempt extends ResolveContext {
  readonly lifetime: AbortSignal;
}

/** Returns the folder in which the hash map of a publisher is kept. */
export function indexDirOf(dir: string, address: PublisherAddress): IndexDir {
  return new IndexDir(join(dir, mapFolder(address)));
}

/**
 * Finds the newest edition of a publisher's hash map, by the DHT (BEP 46) or from an HTTP mirror. If neither answers
 * in time, uses the kept edition unless it has expired.
 *
 * @throws INDEX_UNREACHABLE, INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function resolveHashMap(address: PublisherAddress, context: ResolveContext): Promise<Resolved> {
  const dir = indexDirOf(context.dir, address);
  const kept = await readKept(address, dir, context.now);
  if (!(await dir.isFollowed())) await dir.setFollowed(true);
  const deadline = AbortSignal.timeout(context.timeoutMs);
  const signal = AbortSignal.any([context.signal, deadline]);
  const inner: Attempt = { ...context, signal, lifetime: context.signal };
  // Joins before any query, since neighbours take a moment to answer.
  context.network?.joinCohort(cohortInfoHash(address.publicKey, address.salt));
  try {
    return address.baseUrl === undefined
      ? await byDhtOrMembers(address, dir, kept, inner)
      : await byHttp(address, address.baseUrl, dir, kept, inner);
  } catch (error) {
    context.signal.throwIfAborted();
    const failure =
      deadline.aborted && !isNarswarmError(error) ? unreachable(address, context.timeoutMs, error) : error;
    if (kept === undefined || kept.manifest.expires <= context.now)
      throw expiredOr(failure, kept?.manifest, context.now);
    context.onWarning?.({
      kind: 'kept-map',
      error: asError(failure),
      created: kept.manifest.created.toISOString(),
    });
    const offline: IndexSource = { readFile: () => Promise.reject(failure) };
    return {
      map: new HashMap(formatPublisherAddress(address), { ...kept, fetchedBytes: 0 }, dir, offline, mapOptions(inner)),
      from: 'kept',
      failure,
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
}

/**
 * Reads an edition from a member of the cohort that claims to hold it. The claim proves nothing: the manifest must be
 * signed, and not older than the kept one.
 *
 * @throws INDEX_UNREACHABLE, INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function resolveNamed(
  address: PublisherAddress,
  named: { readonly infoHash: InfoHash; readonly teller: PeerRecord },
  context: ResolveContext & { readonly network: Network },
): Promise<Resolved> {
  const { network, now, signal: lifetime, timeoutMs } = context;
  const dir = indexDirOf(context.dir, address);
  const kept = await readKept(address, dir, now);
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([lifetime, deadline]);
  await using stack = new AsyncDisposableStack();
  const source = stack.use(new PeerSource(network, named.infoHash, lifetime, { teller: named.teller }));
  try {
    const bytes = await source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal });
    const found = await acceptManifest(address, bytes, dir, kept, now);
    hint(found.manifest, network);
    const name = formatPublisherAddress(address);
    const map = new HashMap(name, { ...found, fetchedBytes: bytes.length }, dir, source, {
      lifetime,
      shardTimeoutMs: context.shardTimeoutMs,
    });
    const owned = stack.move();
    return { map, from: 'network', [Symbol.asyncDispose]: () => owned.disposeAsync() };
  } catch (error) {
    lifetime.throwIfAborted();
    throw deadline.aborted && !isNarswarmError(error) ? unreachable(address, timeoutMs, error) : error;
  }
}

async function byHttp(
  address: PublisherAddress,
  baseUrl: string,
  dir: IndexDir,
  kept: Verified | undefined,
  context: Attempt,
): Promise<Resolved> {
  const source: IndexSource = {
    async readFile(name, options) {
      const bytes = await context.getBytes(`${baseUrl}/${name}`, options).catch((cause: unknown) => {
        if (!isNarswarmError(cause, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED')) throw cause;
        throw new NarswarmError('INDEX_UNREACHABLE', `no hash map from its mirror: ${cause.message}`, {
          cause,
          facts: { url: baseUrl },
        });
      });
      if (bytes !== undefined) return bytes;
      throw new NarswarmError(
        'INDEX_UNREACHABLE',
        `${baseUrl}/${name} does not exist: check that this is the mirror of a hash map`,
        { facts: { url: baseUrl } },
      );
    },
  };
  const bytes = await source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal: context.signal });
  const found = await acceptManifest(address, bytes, dir, kept, context.now);
  const { hostname } = new URL(baseUrl);
  hint(found.manifest, context.network, hostname);
  const map = new HashMap(
    formatPublisherAddress(address),
    { ...found, fetchedBytes: bytes.length },
    dir,
    source,
    mapOptions(context),
  );
  return { map, from: 'network', [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** Asks the DHT, and follows a member of the cohort if the DHT does not answer. @throws the error of the DHT */
async function byDhtOrMembers(
  address: PublisherAddress,
  dir: IndexDir,
  kept: Verified | undefined,
  context: Attempt,
): Promise<Resolved> {
  const { network, signal } = context;
  if (network === undefined || context.asksMembers !== true) return byDht(address, dir, kept, context);
  const stop = new AbortController();
  const inner = { ...context, network, signal: AbortSignal.any([signal, stop.signal]) };
  const ways = [byDht(address, dir, kept, inner), byMembers(address, kept, inner)] as const;
  let first: Resolved | undefined;
  try {
    first = await Promise.any(ways);
    return first;
  } catch {
    return await ways[0];
  } finally {
    stop.abort();
    const isOther = (resolved: Resolved): boolean => resolved !== first;
    for (const way of ways)
      way.then(
        (resolved) => (isOther(resolved) ? resolved[Symbol.asyncDispose]() : undefined),
        () => undefined,
      );
  }
}

/**
 * Reads the newest edition that a member of the cohort claims to hold, if it is newer than the kept one. Waits for
 * claims, and gives the DHT some time before.
 *
 * @throws the signal's reason
 */
async function byMembers(
  address: PublisherAddress,
  kept: Verified | undefined,
  context: Attempt & { readonly network: Network },
): Promise<Resolved> {
  const { network, signal, lifetime, timeoutMs } = context;
  const group = cohortInfoHash(address.publicKey, address.salt);
  using claims = new EditionClaims(network.members, group, kept?.manifest.seq ?? 0);
  await sleep(ISOLATED_MS, undefined, { signal });
  const dht = await network.openDht();
  if (dht !== undefined && dht.nodeCount() > 0) await sleep(timeoutMs * DHT_PART - ISOLATED_MS, undefined, { signal });
  for (;;) {
    const claim = await claims.take(signal);
    try {
      return await resolveNamed(address, claim, { ...context, signal: lifetime, timeoutMs: MEMBER_TIMEOUT_MS });
    } catch {
      signal.throwIfAborted(); // another member may be right
    }
  }
}

async function byDht(
  address: PublisherAddress,
  dir: IndexDir,
  kept: Verified | undefined,
  context: Attempt,
): Promise<Resolved> {
  const { network, signal } = context;
  const dht = await network?.openDht();
  if (network === undefined || dht === undefined) {
    throw new NarswarmError(
      'INDEX_UNREACHABLE',
      `${formatPublisherAddress(address)} needs the DHT, which is off: give the address of its HTTP mirror, or leave out --no-dht and --scope off`,
    );
  }
  const item = await askUntilFound(address, dht, kept?.manifest.seq ?? 0, signal);
  const resolved = (source: PeerSource, map: Verified & { fetchedBytes: number }): Resolved => {
    hint(map.manifest, network);
    return {
      map: new HashMap(formatPublisherAddress(address), map, dir, source, mapOptions(context)),
      from: 'network',
      [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
    };
  };
  // The same seq means the same bytes: nothing to fetch.
  if (kept !== undefined && kept.manifest.seq === item.seq && kept.manifest.expires > context.now) {
    return resolved(peerSource(address, item, network, context), { ...kept, fetchedBytes: 0 });
  }
  const { source, bytes } = await readNewest(address, { network, dht }, item, context);
  try {
    return resolved(source, {
      ...(await acceptManifest(address, bytes, dir, kept, context.now)),
      fetchedBytes: bytes.length,
    });
  } catch (error) {
    await source[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Reads the manifest that a pointer leads to. Meanwhile queries the DHT again: a restarted publisher may replace a
 * pointer to an edition that nobody holds any more.
 */
async function readNewest(
  address: PublisherAddress,
  { network, dht }: { network: Network; dht: DhtNode },
  first: Pointer,
  { now, signal, lifetime }: Attempt,
): Promise<{ source: PeerSource; bytes: Uint8Array }> {
  for (let pointer = first; ;) {
    const stop = new AbortController();
    const linked = AbortSignal.any([signal, stop.signal]);
    const source = peerSource(address, pointer, network, { now, lifetime });
    const reading = source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal: linked });
    const newer = untilNewer(address, dht, pointer.seq, linked);
    newer.catch(() => undefined);
    try {
      const outcome = await Promise.race([reading, newer]);
      if (outcome instanceof Uint8Array) return { source, bytes: outcome };
      pointer = outcome;
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw error;
    } finally {
      stop.abort();
    }
    reading.catch(() => undefined);
    await source[Symbol.asyncDispose]();
  }
}

/** Reads the files of the edition of a pointer, from members first. */
function peerSource(
  address: PublisherAddress,
  { seq, infoHash }: Pointer,
  network: Network,
  { now, lifetime }: Pick<Attempt, 'now' | 'lifetime'>,
): PeerSource {
  const group = cohortInfoHash(address.publicKey, address.salt);
  const isManifest = (bytes: Uint8Array): boolean => verified(address, bytes, now)?.manifest.seq === seq;
  const members = new MemberFiles(network.members, { group, infoHash, isManifest });
  return new PeerSource(network, infoHash, lifetime, { members });
}

function mapOptions(context: Attempt): HashMapOptions {
  return { lifetime: context.lifetime, shardTimeoutMs: context.shardTimeoutMs };
}

/** Adds the peers in the manifest's hints. `mirror` is the host of the manifest, as in URLs. */
function hint({ peers, peerPort }: Manifest, network: Network | undefined, mirror?: string): void {
  const besideMirror = mirror === undefined || peerPort === undefined ? [] : [`${mirror}:${peerPort}`];
  network?.discovery.hint([...peers, ...besideMirror]);
}

function unreachable(address: PublisherAddress, timeoutMs: number, cause: unknown): NarswarmError {
  const seconds = Math.round(timeoutMs / 1000);
  return new NarswarmError(
    'INDEX_UNREACHABLE',
    `no answer about ${formatPublisherAddress(address)} in ${seconds} s: check the address, that its publisher or a mirror of it is running, and that this machine reaches the DHT`,
    {
      cause,
      facts: { publisher: formatPublisherAddress(address) },
    },
  );
}

/** Prefers the error of an expired kept edition: it says more than the error that nobody answers. */
function expiredOr(failure: unknown, kept: Manifest | undefined, now: Date): unknown {
  if (kept === undefined || kept.expires > now || !isNarswarmError(failure, 'INDEX_UNREACHABLE')) return failure;
  return new NarswarmError(
    'INDEX_EXPIRED',
    `the kept edition expired at ${kept.expires.toISOString()}, and no newer one was fetched: ${failure.message}`,
    { cause: failure },
  );
}
