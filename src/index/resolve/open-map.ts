import { isLoopback } from '../../discovery/foreign-addresses.ts';
import type { Network } from '../../swarm/network.ts';
import { formatPublisherAddress, type PublisherAddress } from '../address.ts';
import { HashMap, type IndexSource } from '../hash-map.ts';
import type { IndexDir } from '../files/index-dir.ts';
import type { Manifest } from '../manifest.ts';
import { orMembers } from '../files/or-members.ts';
import { acceptManifest, type Verified } from '../format/verified-manifest.ts';

/** One look-up of a publisher's hash map, in any way. */
export interface Lookup {
  readonly address: PublisherAddress;
  readonly network: Network | undefined;
  /** Folder of the hash map. */
  readonly dir: IndexDir;
  /** The edition of an earlier look-up, expired or not. */
  readonly kept: Verified | undefined;
  readonly now: Date;
  /** Time that the look-up may take. */
  readonly timeoutMs: number;
  /** Ends the look-up, also after that time. */
  readonly signal: AbortSignal;
  /** Ends later reads from the hash map. */
  readonly lifetime: AbortSignal;
  readonly shardTimeoutMs: number | undefined;
}

/** A resolved hash map, and the resources of its source. */
export interface Resolved extends AsyncDisposable {
  readonly map: HashMap;
  /**
   * `network`: just fetched or confirmed. Otherwise the mirror or the DHT failed: `member`: a newer edition than the kept
   * one, from a member; `kept`: an earlier edition that has not expired.
   */
  readonly from: 'network' | 'member' | 'kept';
  /** The reason why it is not from the network, and so may not be the newest. */
  readonly failure?: unknown;
}

/** A source that may hold resources, which end with the hash map. */
type OwnedSource = IndexSource & Partial<AsyncDisposable>;

/** An edition whose manifest was checked. */
interface Edition extends Verified {
  /** Bytes of the manifest that came over the network. */
  readonly fetchedBytes: number;
}

/** Opens an edition as the newest one. Tries the peers that its manifest names. */
export function openMap(lookup: Lookup, edition: Edition, source: OwnedSource, mirrorHost?: string): Resolved {
  hint(edition.manifest, lookup.network, mirrorHost);
  return {
    map: mapOf(lookup, edition, source),
    from: 'network',
    [Symbol.asyncDispose]: async () => source[Symbol.asyncDispose]?.(),
  };
}

/**
 * Checks a manifest that has just been fetched, keeps it, and opens its edition. Closes the source if it throws.
 *
 * @param mirrorHost the host of the mirror that sent it, as in URLs
 * @throws INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK
 */
export async function openFetched(
  lookup: Lookup,
  bytes: Uint8Array,
  source: OwnedSource,
  mirrorHost?: string,
): Promise<Resolved> {
  const { address, dir, kept, now } = lookup;
  try {
    const found = await acceptManifest(address, bytes, dir, kept, now);
    return openMap(lookup, { ...found, fetchedBytes: bytes.length }, source, mirrorHost);
  } catch (error) {
    await source[Symbol.asyncDispose]?.();
    throw error;
  }
}

/** Opens the kept edition, since nobody answers. Shards that its folder lacks are read from members. */
export function openKept(lookup: Lookup, kept: Verified, failure: unknown): Resolved {
  const offline: IndexSource = { readFile: () => Promise.reject(failure) };
  return {
    map: mapOf(lookup, { ...kept, fetchedBytes: 0 }, orMembers(offline, lookup)),
    from: 'kept',
    failure,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function mapOf({ address, dir, lifetime, shardTimeoutMs }: Lookup, edition: Edition, source: IndexSource): HashMap {
  return new HashMap(formatPublisherAddress(address), edition, dir, source, {
    lifetime,
    shardTimeoutMs,
    mirror: address.baseUrl,
  });
}

/** Tries the peers that a manifest names, and the publisher's own port beside its mirror. */
function hint({ peers, peerPort }: Manifest, network: Network | undefined, mirrorHost: string | undefined): void {
  network?.discovery.hint(peers);
  if (mirrorHost === undefined || peerPort === undefined) return;
  const host = mirrorHost.replace(/^\[(.*)\]$/, '$1');
  // No hint may lead to loopback, but here the user has named it: the publisher, or the end of a tunnel, is on this machine.
  if (isLoopback(host))
    network?.discovery.add({ host: host === 'localhost' ? '127.0.0.1' : host, port: peerPort }, 'given');
  else network?.discovery.hint([`${mirrorHost}:${peerPort}`]);
}
