import type { FileHash } from '../../nix/brands.ts';
import type { Member } from '../member.ts';
import type { Claim } from '../link/their-fetches.ts';
import type { Source } from './unit.ts';

/** Another process that wants a file. */
export interface Rival {
  /** Its peer id. */
  readonly id: string;
  /** Its claim, if it fetches the file from an upstream. */
  readonly claim: Claim | undefined;
  /** True if its host has kept its word in this run, or gives the file now. Otherwise the claim is a mere promise. */
  readonly isBacked: boolean;
}

/** A member that may want a file, too. */
export interface Contender extends Pick<Source, 'isNeighbour' | 'isSilent' | 'wants'> {
  readonly member: Pick<Member, 'peerId' | 'host'>;
  fetching(file: FileHash): Claim | undefined;
}

/**
 * Returns the neighbours that want a file or fetch it, one per host, so that connections give a host no weight. Of a
 * host's processes, takes the one that holds more of the file, otherwise the one with the smaller id.
 *
 * @param isBacked returns true if there is a reason to believe the claims of a host
 */
export function rivalsOf(sources: Iterable<Contender>, file: FileHash, isBacked: (host: string) => boolean): Rival[] {
  const byHost = new Map<string, Rival>();
  for (const source of sources) {
    if (!source.isNeighbour) continue;
    const claim = source.fetching(file); // it no longer wants the file once it has it and checks it
    if (claim === undefined && (source.isSilent || !source.wants(file))) continue;
    const { peerId, host } = source.member;
    const rival = { id: peerId, claim, isBacked: isBacked(host) };
    const known = byHost.get(host);
    if (known === undefined || isBefore(rival, known)) byHost.set(host, rival);
  }
  return [...byHost.values()];
}

function isBefore(one: Rival, other: Rival): boolean {
  const difference = (one.claim?.heldBytes ?? -1) - (other.claim?.heldBytes ?? -1);
  return difference === 0 ? one.id < other.id : difference > 0;
}
