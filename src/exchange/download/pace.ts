/**
 * Decides from rates alone how much is requested from a member, and who takes over the ranges that it does not send.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** Limit on bytes in flight from a member whose rate is unknown. */
const UNKNOWN_WINDOW_BYTES = MIB;
/**
 * Seconds of a member's rate that may be in flight, and the least number of bytes. A round trip must not leave the
 * member idle. Requests, answers and news wait behind the bytes in flight, so less is requested from neighbours, which
 * have short round trips. The seeder of a crowd is asked as late as possible, since it chooses what it sends.
 */
const NEIGHBOUR_WINDOW: Window = { seconds: 0.1, seedSeconds: 0.1, leastBytes: 128 * KIB };
const STRANGER_WINDOW: Window = { seconds: 0.5, seedSeconds: 0.2, leastBytes: 256 * KIB };
/** Limits on bytes in flight from any member, and from the seeder of a crowd. */
const MAX_WINDOW_BYTES = 16 * MIB;
const MAX_SEED_WINDOW_BYTES = 2 * MIB;
/** Assumed rate of a member whose rate is unknown: high enough that all members are asked. */
const UNKNOWN_RATE = 1_000_000;
/** Factor of time by which another member must be faster to take over a range. */
const LATER = 2;
/** A range that arrives within this time is not taken over. */
const SOON_MS = 150;
/** Time that the others may take before a spared member is asked, too. */
const PATIENCE_MS = 800;

interface Window {
  readonly seconds: number;
  readonly seedSeconds: number;
  readonly leastBytes: number;
}

/** The pace of a member. */
export interface Pace {
  /** Bytes a second. Undefined if unknown. */
  readonly rate: number | undefined;
  /** True if it was asked and has sent nothing for so long that others take over its requests. */
  readonly isLate: boolean;
}

/** Returns the limit on bytes in flight from a member. */
export function windowOf(
  { rate, isLate, isNeighbour }: Pace & { readonly isNeighbour: boolean },
  isSpared: boolean,
): number {
  if (isLate) return 0;
  if (rate === undefined) return UNKNOWN_WINDOW_BYTES;
  const { seconds, seedSeconds, leastBytes } = isNeighbour ? NEIGHBOUR_WINDOW : STRANGER_WINDOW;
  const mostBytes = isSpared ? MAX_SEED_WINDOW_BYTES : MAX_WINDOW_BYTES;
  return Math.max(leastBytes, Math.min(mostBytes, rate * (isSpared ? seedSeconds : seconds)));
}

/**
 * Returns the milliseconds until a member has sent this number of bytes. Include the bytes that were requested before.
 */
export function expectedMs({ rate, isLate }: Pace, bytes: number): number {
  return isLate ? Infinity : (bytes / Math.max(1, rate ?? UNKNOWN_RATE)) * 1000;
}

/** Returns the same time; 0 for a member of unknown rate that is not late: it does not count as slow. */
export function knownMs(pace: Pace, bytes: number): number {
  return pace.rate === undefined && !pace.isLate ? 0 : expectedMs(pace, bytes);
}

/** Returns the same time. A member of unknown rate is expected to continue as so far. */
export function soFarMs(
  { rate, rateSoFar, isLate }: Pace & { readonly rateSoFar: number | undefined },
  bytes: number,
): number {
  return knownMs({ rate: rate ?? rateSoFar, isLate }, bytes);
}

/** Returns true if an idle member should take over a range that another one would have sent after `theirsMs`. */
export function takesOver(mineMs: number, theirsMs: number): boolean {
  return theirsMs > SOON_MS && theirsMs > mineMs * LATER;
}

/** Returns true if a spared member should be asked, since others would take too long. */
export function helpsOut(mineMs: number, theirsMs: number): boolean {
  return theirsMs > PATIENCE_MS && takesOver(mineMs, theirsMs);
}
