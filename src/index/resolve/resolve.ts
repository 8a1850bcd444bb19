import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { Network } from '../../swarm/network.ts';
import { asError, type Warn } from '../../warning.ts';
import { formatPublisherAddress, type PublisherAddress } from '../address.ts';
import { cohortInfoHash } from '../cohort-key.ts';
import type { EditionClaim } from './edition-claims.ts';
import { indexDirOf } from '../files/index-dir.ts';
import type { Manifest } from '../manifest.ts';
import { openKept, type Lookup, type Resolved } from './open-map.ts';
import { resolveByDht } from './resolve-by-dht.ts';
import { hasUsable, insteadOfMirror, openClaimed, orNewer, resolveByMembers } from './resolve-by-members.ts';
import { resolveByMirror, type GetBytes } from './resolve-by-mirror.ts';
import { readKept } from '../format/verified-manifest.ts';

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
  /** True to read the edition of a member if the DHT does not answer, or if the mirror fails or is behind. */
  readonly asksMembers?: boolean;
}

/**
 * Finds the newest edition of a publisher's hash map, by the DHT (BEP 46) or from an HTTP mirror. If neither answers
 * in time, uses the edition of a member, or else the kept edition unless it has expired.
 *
 * @throws INDEX_UNREACHABLE, INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function resolveHashMap(address: PublisherAddress, context: ResolveContext): Promise<Resolved> {
  const { network, now, getBytes } = context;
  const lookup = await begin(address, context);
  const { dir, kept } = lookup;
  if (!(await dir.isFollowed())) await dir.setFollowed(true);
  using _hints = network?.expectHints(); // its manifest may name peers
  // Joins before any query, since neighbours take a moment to answer.
  network?.joinCohort(cohortInfoHash(address.publicKey, address.salt));
  try {
    const members = context.asksMembers === true ? network : undefined;
    if (address.baseUrl !== undefined) {
      if (members === undefined) return await resolveByMirror(lookup, address.baseUrl, getBytes);
      const resolved = await resolveByMirrorOrMembers(lookup, address.baseUrl, getBytes, members);
      if (resolved.from === 'member') warnOf('member-map', resolved, context);
      return resolved;
    }
    if (network === undefined || members === undefined || !network.mayFind) return await resolveByDht(lookup);
    return await resolveByDhtOrMembers(lookup, network);
  } catch (error) {
    context.signal.throwIfAborted();
    const failure = failureOf(error, lookup);
    if (kept === undefined || kept.manifest.expires <= now) throw expiredOr(failure, kept?.manifest, now);
    const resolved = openKept(lookup, kept, failure);
    warnOf('kept-map', resolved, context);
    return resolved;
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
  claim: EditionClaim,
  context: ResolveContext & { readonly network: Network },
): Promise<Resolved> {
  const lookup = await begin(address, context);
  try {
    return await openClaimed(lookup, context.network, claim);
  } catch (error) {
    context.signal.throwIfAborted();
    throw failureOf(error, lookup);
  }
}

/** Begins a look-up: its time runs from now. */
async function begin(address: PublisherAddress, context: ResolveContext): Promise<Lookup> {
  const { network, now, timeoutMs, shardTimeoutMs, signal: lifetime } = context;
  const dir = indexDirOf(context.dir, address);
  const kept = await readKept(address, dir, now);
  const signal = AbortSignal.any([lifetime, AbortSignal.timeout(timeoutMs)]);
  return { address, network, dir, kept, now, timeoutMs, signal, lifetime, shardTimeoutMs };
}

/** Asks the DHT, and follows a member of the cohort if the DHT does not answer. @throws the error of the DHT */
function resolveByDhtOrMembers(lookup: Lookup, network: Network): Promise<Resolved> {
  return firstOf(lookup, (inner) => {
    const members = resolveByMembers(inner, network);
    const alone = new AbortController();
    // No source is left to ask: the DHT has no node, and no member claims to hold an edition.
    members.catch(() => alone.abort());
    const signal = AbortSignal.any([inner.signal, alone.signal]);
    const dht = resolveByDht({ ...inner, signal }).catch(async (error: unknown) => {
      if (hasUsable(lookup) && (await network.openDht()) === undefined) throw onlyMembers(lookup, error);
      throw alone.signal.aborted && !inner.signal.aborted && !isNarswarmError(error) ? isolated(lookup, error) : error;
    });
    return [dht, members];
  });
}

/**
 * Asks the mirror, and reads the edition of a member if the mirror is behind, fails or is silent.
 *
 * @throws the error of the mirror
 */
async function resolveByMirrorOrMembers(
  lookup: Lookup,
  baseUrl: string,
  getBytes: GetBytes,
  network: Network,
): Promise<Resolved> {
  let failure: unknown = new NarswarmError(
    'INDEX_UNREACHABLE',
    `no hash map from its mirror so far: ${baseUrl} is silent`,
    { facts: { url: baseUrl } },
  );
  return await firstOf(lookup, (inner) => {
    const mirror = resolveByMirror(inner, baseUrl, getBytes).then((found) => orNewer(found, lookup, network));
    mirror.catch((error: unknown) => (failure = error));
    const instead = insteadOfMirror(inner, network, mirror);
    return [mirror, instead.then((resolved) => (resolved.from === 'member' ? { ...resolved, failure } : resolved))];
  });
}

/**
 * Returns the result of the first of two ways that has one. Ends the other.
 *
 * @param beginBoth begins both ways. They end with the signal of their look-up
 * @throws the error of the first way, if both fail
 */
async function firstOf(
  lookup: Lookup,
  beginBoth: (inner: Lookup) => readonly [Promise<Resolved>, Promise<Resolved>],
): Promise<Resolved> {
  const stop = new AbortController();
  const ways = beginBoth({ ...lookup, signal: AbortSignal.any([lookup.signal, stop.signal]) });
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

function warnOf(kind: 'member-map' | 'kept-map', { map, failure }: Resolved, { onWarning }: ResolveContext): void {
  onWarning?.({ kind, error: asError(failure), created: map.manifest.created.toISOString() });
}

/** Returns the error of a look-up that the signal has not ended: that nobody answers, if its time is over. */
function failureOf(error: unknown, { address, timeoutMs, signal }: Lookup): unknown {
  if (!signal.aborted || isNarswarmError(error)) return error;
  const seconds = Math.round(timeoutMs / 1000);
  const publisher = formatPublisherAddress(address);
  return new NarswarmError(
    'INDEX_UNREACHABLE',
    `no answer about the hash map ${publisher} in ${seconds} s: check the address, that its publisher or a mirror of it is running, and that this machine reaches the DHT`,
    { cause: error, facts: { publisher } },
  );
}

/** Makes the error of a machine that reaches no DHT node. */
function isolated({ address }: Lookup, cause: unknown): NarswarmError {
  const publisher = formatPublisherAddress(address);
  return new NarswarmError(
    'INDEX_UNREACHABLE',
    `no answer about the hash map ${publisher}: no node of the DHT can be reached: check the network of this machine`,
    { cause, facts: { publisher } },
  );
}

/** Makes the error of a machine whose user wants no DHT, where no member claims a newer edition. */
function onlyMembers({ address }: Lookup, cause: unknown): NarswarmError {
  const publisher = formatPublisherAddress(address);
  return new NarswarmError(
    'INDEX_UNREACHABLE',
    `only neighbours and named peers are asked about the hash map ${publisher}, since the DHT is off`,
    { cause, facts: { publisher } },
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
