import type { FileHash } from '../nix/brands.ts';

/** A process that wants a file. */
export interface Claimant {
  /** Tells it from others. */
  readonly id: string;
  /** What it holds of the file, if it fetches it from an upstream. */
  readonly claim: { readonly heldBytes: number } | undefined;
}

/** Progress is compared in steps of so many bytes, or of a part of the file: what others say of theirs is a second old. */
const MIN_STEP_BYTES = 256 * 1024;
const STEPS = 16;

/**
 * Decides which of several processes that want a file fetches it from an upstream, so that they fetch each file once
 * between them. Of those that fetch it already, the one that holds most of it goes on. If there is none, all that know
 * the same others decide alike (rendezvous hashing): a process that comes or goes moves only its own share.
 *
 * Claims are up to a second old. Still, no two processes leave a file to each other, as progress only grows.
 *
 * @returns undefined if it is `own`
 */
export function fetcherOf<Other extends Claimant>(
  { fileHash, sizeBytes }: { readonly fileHash: FileHash; readonly sizeBytes: number },
  own: Claimant,
  others: readonly Other[],
): Other | undefined {
  const beginning = fnv1a(`${fileHash} `);
  const stepBytes = Math.max(MIN_STEP_BYTES, sizeBytes / STEPS);
  const stepOf = ({ claim }: Claimant): number => (claim === undefined ? -1 : Math.floor(claim.heldBytes / stepBytes));
  const isBehind = (one: Claimant, other: Claimant): boolean => {
    const steps = stepOf(one) - stepOf(other);
    if (steps !== 0) return steps < 0;
    const scores = score(beginning, one.id) - score(beginning, other.id);
    return scores === 0 ? one.id < other.id : scores < 0;
  };
  let first: Other | undefined;
  for (const other of others) if (other.id !== own.id && isBehind(first ?? own, other)) first = other;
  return first;
}

/** Mixes all bits of the hash of a file and an id (the last step of MurmurHash3, 32 bits). */
function score(beginning: number, id: string): number {
  let mixed = fnv1a(id, beginning);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** FNV-1a, 32 bits: asked for every wanted file and neighbour, again and again, where SHA-1 would take most of the time. */
function fnv1a(text: string, hash = 0x811c9dc5): number {
  let result = hash;
  for (let at = 0; at < text.length; at++) result = Math.imul(result ^ text.charCodeAt(at), 0x01000193);
  return result;
}
