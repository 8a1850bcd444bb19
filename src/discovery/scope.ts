/**
 * The scope: where this machine shows what it has.
 * - `off`: no peers at all.
 * - `lan`: announces to and serves the local network; beyond it only asks and downloads.
 * - `cohort`: is announced in the DHT as a follower of the publisher, and serves anyone.
 * - `public`: as `cohort`, and announces single NARs, too, for ordinary BitTorrent clients.
 */
export type Scope = 'off' | 'lan' | 'cohort' | 'public';
export const SCOPES: readonly Scope[] = ['off', 'lan', 'cohort', 'public'];
