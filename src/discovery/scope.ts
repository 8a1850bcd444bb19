/**
 * Who learns what this machine has:
 * - `off`: no peers at all;
 * - `lan`: peers on the local network are told and served; beyond it we only ask and download;
 * - `cohort`: announced in the DHT as a follower of the publisher, and anyone is served;
 * - `public`: as `cohort`, and single NARs are announced too, for ordinary BitTorrent clients.
 */
export type Scope = 'off' | 'lan' | 'cohort' | 'public';
export const SCOPES: readonly Scope[] = ['off', 'lan', 'cohort', 'public'];
