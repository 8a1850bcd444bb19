import { NarswarmError } from '../../errors.ts';
import type { DhtNode } from '../../discovery/dht.ts';
import type { Network } from '../../swarm/network.ts';
import { formatPublisherAddress } from '../address.ts';
import { MANIFEST_NAME } from '../files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../format/limits.ts';
import { openFetched, openMap, type Lookup, type Resolved } from './open-map.ts';
import { sourceOfEdition, type PeerSource } from '../files/peer-source.ts';
import { askUntilFound, untilNewer, type Pointer } from '../format/pointer.ts';

/**
 * Opens the edition that the DHT points to (BEP 46). Its files come from members and from the peers of its torrent.
 *
 * @throws INDEX_UNREACHABLE, INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function resolveByDht(lookup: Lookup): Promise<Resolved> {
  const { address, network, kept, now, signal } = lookup;
  const dht = await network?.openDht();
  if (network === undefined || dht === undefined) {
    throw new NarswarmError(
      'INDEX_UNREACHABLE',
      `the hash map ${formatPublisherAddress(address)} needs the DHT, which is off: give the address of its HTTP mirror, or leave out --no-dht and --scope off`,
    );
  }
  const pointer = await askUntilFound(address, dht, kept?.manifest.seq ?? 0, signal);
  // The same seq means the same bytes: nothing to fetch.
  if (kept !== undefined && kept.manifest.seq === pointer.seq && kept.manifest.expires > now)
    return openMap(lookup, { ...kept, fetchedBytes: 0 }, sourceOfEdition(lookup, network, pointer));
  const { source, bytes } = await readNewest(lookup, { network, dht }, pointer);
  return await openFetched(lookup, bytes, source);
}

/**
 * Reads the manifest that a pointer leads to. Meanwhile queries the DHT again: a restarted publisher may replace a
 * pointer to an edition that nobody holds any more.
 */
async function readNewest(
  lookup: Lookup,
  { network, dht }: { network: Network; dht: DhtNode },
  first: Pointer,
): Promise<{ source: PeerSource; bytes: Uint8Array }> {
  for (let pointer = first; ;) {
    const stop = new AbortController();
    const signal = AbortSignal.any([lookup.signal, stop.signal]);
    const source = sourceOfEdition(lookup, network, pointer);
    const reading = source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal });
    const newer = untilNewer(lookup.address, dht, pointer.seq, signal);
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
