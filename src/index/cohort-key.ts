/** The key of the swarm in which the followers of a hash map meet. */
import type { InfoHash } from '../nix/brands.ts';
import { infoHashOf } from '../torrent/canonical.ts';
import { saltBytes } from './address.ts';

/**
 * Returns the infohash under which the cohort of a hash map meets (DHT, trackers, BEP 14). It follows from the address
 * alone, so it stays the same over all editions: SHA-1 over `narswarm cohort 1\n`, the publisher's 32 key bytes and
 * the bytes of the salt.
 *
 * @throws NarswarmError `ADDRESS_INVALID` for a salt that BEP 44 does not allow.
 */
export function cohortInfoHash(publicKey: Uint8Array, salt: string): InfoHash {
  return infoHashOf(Buffer.concat([Buffer.from('narswarm cohort 1\n'), publicKey, saltBytes(salt)]));
}
