/**
 * The history of a hash map. Each manifest names the editions before it by their hashes, so that a publisher that shows
 * different histories to different followers is found out as soon as one of them sees an edition of the other history.
 */
import { createHash } from 'node:crypto';
import { encodeNix32 } from '../../nix/nix32.ts';
import type { Manifest } from './manifest-text.ts';

/** Limit on earlier editions that a manifest names: half a month of nights. */
export const MAX_PREVIOUS = 16;

/** An earlier edition of a hash map. */
export interface PreviousEdition {
  readonly seq: number;
  /** SHA-256 of its whole manifest: 52 nix32 characters. */
  readonly sha256: string;
}

/** A manifest and its signed bytes. */
interface Signed {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
}

/** Returns the earlier editions that the one after `last` names, the newest first. */
export function historyAfter({ manifest, bytes }: Signed): PreviousEdition[] {
  const before = manifest.previous ?? [];
  return [{ seq: manifest.seq, sha256: sha256Of(bytes) }, ...before].slice(0, MAX_PREVIOUS);
}

/**
 * Returns true if an edition continues the history of one that was seen before, as far as it says. False: the publisher
 * has signed two histories, or has lost the record of its own. The hashes that it names are only its own claim.
 */
export function continues(later: Signed, seen: Signed): boolean {
  const { seq, previous = [] } = later.manifest;
  const hash = sha256Of(seen.bytes);
  if (seq === seen.manifest.seq) return sha256Of(later.bytes) === hash;
  const named = previous.find((edition) => edition.seq === seen.manifest.seq);
  if (named !== undefined) return named.sha256 === hash;
  const oldest = previous.at(-1);
  const isTooOld = oldest !== undefined && oldest.seq > seen.manifest.seq;
  if (isTooOld && previous.length === MAX_PREVIOUS) return true;
  // Versions before 0.2 name no editions, so that the history begins later.
  return (isTooOld || oldest === undefined) && (seen.manifest.previous ?? []).length === 0;
}

function sha256Of(bytes: Uint8Array): string {
  return encodeNix32(createHash('sha256').update(bytes).digest());
}
