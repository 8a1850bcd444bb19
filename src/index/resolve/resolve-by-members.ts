import { setTimeout as sleep } from 'node:timers/promises';
import type { InfoHash } from '../../nix/brands.ts';
import type { Network } from '../../swarm/network.ts';
import { withinMs } from '../../within.ts';
import { cohortInfoHash } from '../cohort-key.ts';
import { EditionClaims, type EditionClaim } from './edition-claims.ts';
import { MANIFEST_NAME } from '../files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../format/limits.ts';
import { openFetched, type Lookup, type Resolved } from './open-map.ts';
import { sourceOfEdition } from '../files/peer-source.ts';

/** Time for the DHT to find its first node before an edition is read that a member of the cohort claims to hold. */
const ISOLATED_MS = 2_000;
/** Part of the whole time for a DHT that has nodes: it knows which edition is the newest, a member may not. */
const DHT_PART = 0.7;
/** Time for a member to send the manifest of the edition that it claims to hold, if none is kept. */
const MEMBER_TIMEOUT_MS = 5_000;
/** The same while an edition of the mirror is at hand. This is all that false claims can delay a run. */
const NEWER_TIMEOUT_MS = 1_000;
/** Time for a mirror to answer before an edition is read that a member claims to hold, and part of the whole time. */
const SILENT_MIRROR_MS = 5_000;
const MIRROR_PART = 0.5;
/**
 * Time since the start of a look-up in which members are met, if its mirror fails at once. A fetch with caches waits
 * for 1.5 s, and should get the failure within that time.
 */
const MEETING_MS = 1_250;
/** The same if an edition of an earlier look-up is at hand. */
const MEETING_IF_KEPT_MS = 1_000;

/**
 * Opens the newest edition that a member of the cohort claims to hold, if it is newer than the kept one. Waits for
 * claims, and gives the DHT some time before. If an edition is kept, ends once a DHT without nodes has been searched.
 *
 * @throws the signal's reason, or an AbortError if no member claims to hold one, and the DHT has no node
 */
export async function resolveByMembers(lookup: Lookup, network: Network): Promise<Resolved> {
  const { signal, timeoutMs } = lookup;
  const claims = new EditionClaims(lookup.kept?.manifest.seq);
  using _listening = claims.listen(network.members, groupOf(lookup));
  await sleep(ISOLATED_MS, undefined, { signal });
  const dht = await network.openDht();
  if (dht !== undefined && dht.nodeCount() > 0) await sleep(timeoutMs * DHT_PART - ISOLATED_MS, undefined, { signal });
  const isolated = new AbortController();
  if (hasUsable(lookup))
    Promise.resolve(dht?.ready({ signal })).then(
      (hasNode) => hasNode === true || isolated.abort(),
      () => undefined,
    );
  return await openNewest(lookup, network, claims, AbortSignal.any([signal, isolated.signal]));
}

/**
 * Returns the answer of the mirror. If it fails or is silent, opens the newest edition that a member of the cohort
 * claims to hold, if it is newer than the kept one. After a failure, waits for claims only as long as it takes to meet
 * members.
 *
 * @param mirror the look-up at the mirror. Returned as it is, if it answers soon
 * @throws the signal's reason, or an AbortError if no member claims to hold one
 */
export async function insteadOfMirror(lookup: Lookup, network: Network, mirror: Promise<Resolved>): Promise<Resolved> {
  const { signal, timeoutMs } = lookup;
  const claims = new EditionClaims(lookup.kept?.manifest.seq);
  using _listening = claims.listen(network.members, groupOf(lookup));
  const meetingMs = hasUsable(lookup) ? MEETING_IF_KEPT_MS : MEETING_MS;
  const over = new AbortController();
  void Promise.allSettled([mirror, sleep(meetingMs, undefined, { signal })]).then(() => over.abort());
  const silentMs = Math.min(SILENT_MIRROR_MS, timeoutMs * MIRROR_PART);
  const answer = await withinMs(silentMs, mirror).catch(() => signal.throwIfAborted());
  if (answer !== undefined) return answer;
  const found = await openNewest(lookup, network, claims, AbortSignal.any([signal, over.signal]));
  return { ...found, from: 'member' };
}

/** Returns true if the kept edition can be used. */
export function hasUsable({ kept, now }: Lookup): boolean {
  return kept !== undefined && kept.manifest.expires > now;
}

/**
 * Opens the newest claimed edition that is sound. A false claim costs a second at most if an edition is kept. Without a
 * kept edition, each teller has its full time.
 *
 * @param waiting ends the wait for claims
 */
async function openNewest(
  lookup: Lookup,
  network: Network,
  claims: EditionClaims,
  waiting: AbortSignal,
): Promise<Resolved> {
  const over = new AbortController();
  const { promise: found, resolve } = Promise.withResolvers<Resolved>();
  const readings = new Set<Promise<boolean>>();
  const open = async (claim: EditionClaim): Promise<boolean> => {
    const ends = AbortSignal.any([lookup.lifetime, over.signal, AbortSignal.timeout(MEMBER_TIMEOUT_MS)]);
    const resolved = await openClaimed({ ...lookup, signal: ends }, network, claim).catch(() => undefined);
    if (resolved === undefined) return false; // another member may be right
    if (over.signal.aborted) await resolved[Symbol.asyncDispose]();
    over.abort();
    resolve(resolved);
    return true;
  };
  const read = (claim: EditionClaim): Promise<boolean> => {
    const reading = open(claim);
    readings.add(reading);
    return reading;
  };
  const none = claims.readEach(read, AbortSignal.any([waiting, over.signal])).catch(async (error: unknown) => {
    if (!hasUsable(lookup)) await Promise.all(readings);
    if (over.signal.aborted) return found;
    over.abort();
    throw error;
  });
  return await Promise.race([found, none]);
}

/** Returns the group of the followers of the hash map. */
function groupOf({ address }: Lookup): InfoHash {
  return cohortInfoHash(address.publicKey, address.salt);
}

/**
 * Opens a newer edition that a connected member claims to hold: a mirror may be behind. Returns the given one if there is
 * none, or if no member gives it in time.
 */
export async function orNewer(found: Resolved, lookup: Lookup, network: Network): Promise<Resolved> {
  const { seq: foundSeq } = found.map.manifest;
  const claims = network.members.editionsOf(groupOf(lookup)).filter(([, { seq }]) => seq > foundSeq);
  if (claims.length === 0) return found;
  const ends = AbortSignal.any([lookup.lifetime, AbortSignal.timeout(NEWER_TIMEOUT_MS)]);
  for (const [teller, { seq, infoHash }] of claims.toSorted(([, a], [, b]) => b.seq - a.seq)) {
    try {
      const other = await openClaimed({ ...lookup, signal: ends }, network, { teller, seq, infoHash });
      const isNewer = other.map.manifest.seq > foundSeq;
      await (isNewer ? found : other)[Symbol.asyncDispose]();
      if (isNewer) return other;
    } catch {
      lookup.lifetime.throwIfAborted(); // another member may be right
    }
  }
  return found;
}

/**
 * Opens an edition that a member claims to hold. The claim proves nothing: the manifest must be signed, and not older
 * than the kept one.
 *
 * @throws INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function openClaimed(lookup: Lookup, network: Network, claim: EditionClaim): Promise<Resolved> {
  await using stack = new AsyncDisposableStack();
  const source = stack.use(sourceOfEdition(lookup, network, claim));
  const bytes = await source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal: lookup.signal });
  stack.move();
  return await openFetched(lookup, bytes, source);
}
