/** How much is asked of a member, and who takes over what it does not send: decided from rates alone. */

const KIB = 1024;
const MIB = 1024 * KIB;

/** A member that was asked and has sent nothing for so long is silent: the others take over what it was asked for. */
export const SILENT_MS = 1_000;
/** Bytes in flight to a member that nobody has measured. */
const UNKNOWN_WINDOW_BYTES = MIB;
/** A member that is known gets what it sends in so long, within these bounds: a round trip must not cost it anything. */
const WINDOW_SECONDS = 0.5;
const MIN_WINDOW_BYTES = 256 * KIB;
const MAX_WINDOW_BYTES = 16 * MIB;
/** The same where the member is the seeder of a crowd: what it sends is to be chosen as late as possible. */
const MAX_SEED_WINDOW_BYTES = 2 * MIB;
/** Bytes a second that a member is assumed to send while it is not known: enough for all to be asked. */
const UNKNOWN_RATE = 1_000_000;
/** A range is taken over from a member that would have sent it so many times later. */
const LATER = 2;
/** What comes so soon is left to whom it was asked of. */
const SOON_MS = 150;
/** A member that is to be spared is asked if the others would take so long. */
const PATIENCE_MS = 800;

/** Pace of a member. */
export interface Pace {
  /** Bytes a second; undefined if that is not known yet. */
  readonly rate: number | undefined;
  /** Milliseconds that it could have sent something and did not; 0 if nothing was asked of it. */
  readonly silentMs: number;
}

/** Bytes that may be in flight to a member. */
export function windowOf({ rate, silentMs }: Pace, isSpared: boolean): number {
  if (silentMs > SILENT_MS) return 0;
  if (rate === undefined) return UNKNOWN_WINDOW_BYTES;
  const most = isSpared ? MAX_SEED_WINDOW_BYTES : MAX_WINDOW_BYTES;
  return Math.max(MIN_WINDOW_BYTES, Math.min(most, rate * WINDOW_SECONDS));
}

/** Milliseconds until a member has sent so many bytes; those that it was asked for before are to be counted in. */
export function expectedMs({ rate, silentMs }: Pace, bytes: number): number {
  return silentMs > SILENT_MS ? Infinity : (bytes / Math.max(1, rate ?? UNKNOWN_RATE)) * 1000;
}

/** The same as far as it can be held against a member: one that nobody has measured is not slow. */
export function knownMs(pace: Pace, bytes: number): number {
  return pace.rate === undefined && pace.silentMs <= SILENT_MS ? 0 : expectedMs(pace, bytes);
}

/** True if what one would have sent after `theirsMs` is to be asked of another one, which has nothing else to do. */
export function takesOver(mineMs: number, theirsMs: number): boolean {
  return theirsMs > SOON_MS && theirsMs > mineMs * LATER;
}

/** True if a member that is to be spared should be asked all the same, since others would take too long. */
export function helpsOut(mineMs: number, theirsMs: number): boolean {
  return theirsMs > PATIENCE_MS && takesOver(mineMs, theirsMs);
}
