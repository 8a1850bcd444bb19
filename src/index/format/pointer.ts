import { setTimeout as sleep } from 'node:timers/promises';
import { NarswarmError } from '../../errors.ts';
import type { InfoHash } from '../../nix/brands.ts';
import type { DhtNode } from '../../discovery/dht.ts';
import { formatPublisherAddress, saltBytes, type PublisherAddress } from '../address.ts';

/** The edition that the DHT points to (BEP 46). */
export interface Pointer {
  readonly seq: number;
  readonly infoHash: InfoHash;
}

/** Time between two queries to the DHT while nobody serves the edition that it points to. */
const RECHECK_MS = 3_000;
/** Time between two queries to the DHT while it does not answer. */
const RETRY_MS = 1_000;

/** Queries the DHT until it returns an item that is not older than the newest seen. */
export async function askUntilFound(
  address: PublisherAddress,
  dht: DhtNode,
  lowestSeq: number,
  signal: AbortSignal,
): Promise<Pointer> {
  let older: number | undefined;
  for (;;) {
    const item = await dht.getMutable(address.publicKey, saltBytes(address.salt), { signal, lowestSeq });
    if (item?.infoHash !== undefined && item.seq >= lowestSeq) return { seq: item.seq, infoHash: item.infoHash };
    if (item !== undefined && item.seq < lowestSeq) older = item.seq;
    try {
      await sleep(RETRY_MS, undefined, { signal });
    } catch (cause) {
      if (older === undefined) throw cause;
      throw new NarswarmError(
        'INDEX_ROLLBACK',
        `the DHT has seq ${older} of ${formatPublisherAddress(address)}, but ${lowestSeq} was seen before: someone serves an old one`,
        { cause, facts: { seq: older, lowestSeq } },
      );
    }
  }
}

/** Queries the DHT from time to time, until it has a pointer above `seq`. @throws the signal's reason */
export async function untilNewer(
  address: PublisherAddress,
  dht: DhtNode,
  seq: number,
  signal: AbortSignal,
): Promise<Pointer> {
  for (;;) {
    await sleep(RECHECK_MS, undefined, { signal });
    const item = await dht.getMutable(address.publicKey, saltBytes(address.salt), { signal, lowestSeq: seq + 1 });
    if (item?.infoHash !== undefined && item.seq > seq) return { seq: item.seq, infoHash: item.infoHash };
  }
}
