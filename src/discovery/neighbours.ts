/** The swarm in which the machines of a local network meet that trust and share the same cache key. */
import type { InfoHash } from '../nix/brands.ts';
import { formatPublicKey, type PublicKey } from '../nix/signature.ts';
import { infoHashOf } from '../torrent/canonical.ts';

/**
 * Returns the infohash under which machines that share a cache's key find each other by multicast: SHA-1 over `narswarm
 * neighbours 1\n` and the key as in `trusted-public-keys`. It is never announced beyond the local network.
 */
export function neighboursInfoHash(key: PublicKey): InfoHash {
  return infoHashOf(Buffer.from(`narswarm neighbours 1\n${formatPublicKey(key)}`));
}
