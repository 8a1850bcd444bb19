/**
 * The scope: who may learn what this machine has, and who may get it.
 * - `off`: uses no peers at all.
 * - `lan`: announces to and serves the local network. Beyond it, only asks and downloads.
 * - `cohort`: is announced in the DHT as a follower of the publisher, and serves anyone.
 * - `public`: as `cohort`, and also announces single NARs, for ordinary BitTorrent clients.
 */
export type Scope = 'off' | 'lan' | 'cohort' | 'public';
export const SCOPES: readonly Scope[] = ['off', 'lan', 'cohort', 'public'];
