import type Wire from 'bittorrent-protocol';
import type { PeerTable } from '../discovery/peer-table.ts';
import { stateOf } from './wire-state.ts';

/**
 * Bans the peer that sent a piece which fails its SHA-1, and closes its connections. Where several sent parts of the
 * piece nobody is banned: it is fetched again from one alone, and that tells who lied.
 *
 * @returns the liar's `host:port`, or undefined where it is not known yet
 */
export function banLiar(peers: PeerTable, sources: readonly Wire[]): string | undefined {
  const [only, ...others] = new Set(sources.map((wire) => stateOf(wire).address));
  if (only === undefined || others.length > 0) return undefined;
  peers.ban(only, 'sent a piece that fails its SHA-1');
  for (const wire of sources) wire.destroy();
  return only;
}
