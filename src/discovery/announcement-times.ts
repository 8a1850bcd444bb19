/** When a machine announces itself on the local network: often enough to be found at once, seldom enough for everybody. */

/**
 * Each neighbour's share of the gap between two announcements of a machine, and of the time over which answers to a newcomer
 * are spread. So the smaller a network, the sooner a newcomer is answered, and all together send 200 packets a second at
 * most. BEP 14 asks for a minute between announcements, but a newcomer would wait that long for an answer.
 */
const SHARE_MS = 5;
const MIN_GAP_MS = 50;
const MAX_GAP_MS = 1_000;
const MAX_SPREAD_MS = 250;
/** So few neighbours may answer a newcomer at the same moment. */
const FEW = 4;
/** Time from the first announcement to the second; doubled after each. Wi-Fi loses multicast. */
const FIRST_INTERVAL_MS = 1_000;

/** Returns the shortest time between two announcements of a machine with so many neighbours. */
export function gapMs(neighbours: number): number {
  return Math.min(Math.max(neighbours * SHARE_MS, MIN_GAP_MS), MAX_GAP_MS);
}

/** Returns the time over which so many neighbours spread their answers to a newcomer. */
export function spreadMs(neighbours: number): number {
  return Math.min(Math.max(0, neighbours - FEW) * SHARE_MS, MAX_SPREAD_MS);
}

/**
 * Returns the time from one announcement to the next, if nothing happens.
 *
 * @param past announcements so far
 * @param maxMs longest time, at least a second
 */
export function intervalMs(past: number, maxMs: number): number {
  return Math.max(FIRST_INTERVAL_MS, Math.min(FIRST_INTERVAL_MS * 2 ** (past - 1), maxMs));
}
