import type { Claim } from '../../exchange/link/their-fetches.ts';
import type { FileHash } from '../../nix/brands.ts';

/** A process that wants a file. */
export interface Claimant {
  /** Identifies the process. */
  readonly id: string;
  /** The part of the file that it holds, if it fetches it from an upstream. */
  readonly claim: { readonly heldBytes: number } | undefined;
}

/**
 * Progress is compared in steps of this size, or of a part of the file: reports of other processes are a second old.
 */
const MIN_STEP_BYTES = 256 * 1024;
const STEPS = 16;

/**
 * Decides which of several processes that want a file fetches it from an upstream, so that each file is fetched once
 * among them. If some are fetching it already, the one that holds most continues. Otherwise all processes that know
 * each other decide alike (rendezvous hashing): if a process comes or goes, only its own share moves.
 *
 * Claims are up to a second old. Still, two processes never leave a file to each other, since progress only grows.
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

/** A process whose claim may be believed. */
interface Promising extends Claimant {
  /** True if its host has kept its word before, or gives the file now. */
  readonly isBacked: boolean;
}

/**
 * Leaves out claims that are not believed, so that they delay nothing and hide no other claim: those of hosts that have
 * given nothing yet once `isSharing` ends, the others later.
 */
export function believed<Other extends Promising>(
  others: readonly Other[],
  { isSharing, areClaimsBelieved }: { readonly isSharing: boolean; readonly areClaimsBelieved: boolean },
): Other[] {
  return others.map((other) =>
    (other.isBacked ? areClaimsBelieved : isSharing) ? other : { ...other, claim: undefined },
  );
}

/**
 * If bytes of the file have come from members, replaces the claim of a process by these bytes and their rate, since a
 * slow process may claim a high rate.
 *
 * @param arrived.bytesPerSec undefined if nothing has come from members
 */
export function asItArrives<Other extends { readonly claim: Claim | undefined }>(
  other: Other | undefined,
  { heldBytes, bytesPerSec }: { readonly heldBytes: number; readonly bytesPerSec: number | undefined },
): Other | undefined {
  if (other?.claim === undefined || bytesPerSec === undefined) return other;
  return { ...other, claim: { heldBytes, bytesPerSec } };
}

/** Mixes all bits of the hash of a file and an id (the last step of MurmurHash3, 32 bits). */
function score(beginning: number, id: string): number {
  let mixed = fnv1a(id, beginning);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/**
 * Computes FNV-1a, 32 bits. It is asked often for every wanted file and neighbour, where SHA-1 would take most of the
 * time.
 */
function fnv1a(text: string, hash = 0x811c9dc5): number {
  let result = hash;
  for (let at = 0; at < text.length; at++) result = Math.imul(result ^ text.charCodeAt(at), 0x01000193);
  return result;
}
