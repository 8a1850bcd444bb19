import { formatPublisherAddress, type PublisherAddress } from '../address.ts';
import { continues } from './history.ts';
import type { IndexDir } from '../files/index-dir.ts';
import { parseManifest, type Manifest } from '../manifest.ts';
import { ofPublisher } from './of-publisher.ts';

/** A manifest whose signature was checked. */
export interface Verified {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** Reads the last seen manifest of a publisher's hash map. Undefined if there is none, or if it is damaged. */
export async function readKept(address: PublisherAddress, dir: IndexDir, now: Date): Promise<Verified | undefined> {
  const bytes = await dir.readManifest();
  return bytes === undefined ? undefined : verified(address, bytes, now);
}

/** Checks a manifest that was kept or is only claimed, expired or not. Undefined if it is not sound. */
export function verified(address: PublisherAddress, bytes: Uint8Array, now: Date): Verified | undefined {
  try {
    return {
      bytes,
      manifest: parseManifest(bytes, { publicKey: address.publicKey, salt: address.salt, now, allowExpired: true }),
    };
  } catch {
    return undefined; // damaged files count as absent
  }
}

/**
 * Checks a manifest and keeps it in the folder of its hash map. If it does not continue the history of the kept one, keeps
 * both as a proof.
 *
 * @throws INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK
 */
export async function acceptManifest(
  address: PublisherAddress,
  bytes: Uint8Array,
  dir: IndexDir,
  kept: Verified | undefined,
  now: Date,
): Promise<Verified> {
  const found = kept && verified(address, bytes, now);
  if (kept !== undefined && found !== undefined && !areOfOneHistory(found, kept))
    await dir.keepProof(kept.bytes, bytes);
  const manifest = judged(address, bytes, kept, now);
  // Another process that follows this hash map may already have a newer edition.
  await dir.writeManifest(bytes, (there) => (verified(address, there, now)?.manifest.seq ?? 0) < manifest.seq);
  if (kept !== undefined && kept.manifest.seq < manifest.seq) await dir.removeUnused(now);
  return { manifest, bytes };
}

/** An older edition is refused. It may still prove a second history. */
function areOfOneHistory(found: Verified, kept: Verified): boolean {
  return found.manifest.seq < kept.manifest.seq ? continues(kept, found) : continues(found, kept);
}

function judged(address: PublisherAddress, bytes: Uint8Array, kept: Verified | undefined, now: Date): Manifest {
  const lowestSeq = kept === undefined ? {} : { lowestSeq: kept.manifest.seq };
  try {
    return parseManifest(bytes, { publicKey: address.publicKey, salt: address.salt, now, ...lowestSeq });
  } catch (error) {
    throw ofPublisher(error, formatPublisherAddress(address));
  }
}
