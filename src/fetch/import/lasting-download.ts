import { setTimeout as sleep } from 'node:timers/promises';

/** Interval of looks at how long the download will last. */
const LOOK_MS = 250;

/** Estimates how much longer a download takes, in milliseconds, from its bytes so far. Without any: 0. */
export function leftMs(bytes: number, leftBytes: number, passedMs: number): number {
  return bytes === 0 ? 0 : (leftBytes / bytes) * passedMs;
}

/**
 * Waits until a download has lasted for `lastingMs`, or will last for as long from now on.
 *
 * @param left estimates how much longer it takes, after a time in milliseconds
 * @param ended is aborted when it ends
 * @returns false if it has ended before
 */
export async function isLasting(
  lastingMs: number,
  left: (passedMs: number) => number,
  ended: AbortSignal,
): Promise<boolean> {
  for (let passedMs = 0; passedMs < lastingMs && left(passedMs) <= lastingMs; passedMs += LOOK_MS) {
    await sleep(LOOK_MS, undefined, { signal: ended }).catch(() => undefined);
    if (ended.aborted) return false;
  }
  return true;
}
