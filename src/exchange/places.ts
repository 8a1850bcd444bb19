import type { PeerRecord } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { Link } from './link/link.ts';

/** Limits on members of one group that we stay connected to: beyond the local network, and on it. */
const FAR_PLACES = 12;
const NEAR_PLACES = 32;
/** The same limit for members that a person or a hash map named, over all groups. */
const NAMED_PLACES = 64;
/** Limit on connected members that have no wanted file, or have not said yet. They do not take the places above. */
const MAX_IDLE = 48;

/** Counts the members at each kind of place. */
export class Places {
  readonly #isNear: (host: string) => boolean;
  readonly #taken = new Map<string, number>();
  #idle = 0;

  constructor(isNear: (host: string) => boolean) {
    this.#isNear = isNear;
  }

  /** Counts a member that we connected to, or are connecting to. */
  count(link: Pick<Link, 'peer' | 'group' | 'isIdle' | 'isKnown'>): void {
    if ((link.isIdle || !link.isKnown) && !isNamed(link.peer)) this.#idle++;
    if (link.isIdle) return;
    const kind = this.#kindOf(link.peer, link.group);
    this.#taken.set(kind, (this.#taken.get(kind) ?? 0) + 1);
  }

  /** Returns true if one more member of a group may be connected to. */
  hasFor(peer: PeerRecord, group: InfoHash): boolean {
    const places = isNamed(peer) ? NAMED_PLACES : this.#isNear(peer.endpoint.host) ? NEAR_PLACES : FAR_PLACES;
    return (this.#taken.get(this.#kindOf(peer, group)) ?? 0) < places;
  }

  /** True if an idle member must be disconnected first. */
  get isIdleFull(): boolean {
    return this.#idle >= MAX_IDLE;
  }

  #kindOf(peer: PeerRecord, group: InfoHash): string {
    if (isNamed(peer)) return 'named';
    return `${this.#isNear(peer.endpoint.host) ? 'near' : 'far'} ${group}`;
  }
}

/** Returns true for a peer that a person or a hash map named. */
export function isNamed({ origin }: PeerRecord): boolean {
  return origin === 'given' || origin === 'hint';
}
