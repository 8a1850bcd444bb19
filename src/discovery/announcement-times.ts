/** Times of announcements on the local network: frequent enough to be found at once, rare enough for all together. */

/**
 * Time that each neighbour adds to the gap between two announcements, and to the time over which answers to a newcomer
 * are spread. In a small network a newcomer is answered sooner. All machines together send at most 200 packets a
 * second. BEP 14 asks for a minute between announcements, but a newcomer would wait that long for an answer.
 */
const SHARE_MS = 5;
const MIN_GAP_MS = 50;
const MAX_GAP_MS = 1_000;
const MAX_SPREAD_MS = 250;
/** Number of neighbours that may answer a newcomer at the same moment. */
const FEW = 4;
/** Time from the first announcement to the second; doubled after each. Wi-Fi loses multicast. */
const FIRST_INTERVAL_MS = 1_000;

/** Returns the shortest time between two announcements of a machine with this number of neighbours. */
export function gapMs(neighbours: number): number {
  return Math.min(Math.max(neighbours * SHARE_MS, MIN_GAP_MS), MAX_GAP_MS);
}

/** Returns the time over which this number of neighbours spreads its answers to a newcomer. */
export function spreadMs(neighbours: number): number {
  return Math.min(Math.max(0, neighbours - FEW) * SHARE_MS, MAX_SPREAD_MS);
}

/**
 * Returns the time from one announcement to the next if nothing happens.
 *
 * @param past number of announcements so far
 * @param maxMs longest time, at least a second
 */
export function intervalMs(past: number, maxMs: number): number {
  return Math.max(FIRST_INTERVAL_MS, Math.min(FIRST_INTERVAL_MS * 2 ** (past - 1), maxMs));
}
