import type { PeerRecord } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { Link } from './link.ts';

/** Members that we keep a connection to: of each group, beyond the local network and on it. */
const FAR_PLACES = 12;
const NEAR_PLACES = 32;
/** The same for those that a person or a hash map named, of all groups. */
const NAMED_PLACES = 64;
/** Members that have nothing of what is wanted, or have not said yet. They come on top; further ones are met in turn. */
const MAX_IDLE = 48;

/** Counts who takes which place. */
export class Places {
  readonly #isNear: (host: string) => boolean;
  readonly #taken = new Map<string, number>();
  #idle = 0;

  constructor(isNear: (host: string) => boolean) {
    this.#isNear = isNear;
  }

  /** Counts a member that we have connected to, or are connecting to. */
  count(link: Pick<Link, 'peer' | 'group' | 'isIdle' | 'isKnown'>): void {
    if ((link.isIdle || !link.isKnown) && !isNamed(link.peer)) this.#idle++;
    if (link.isIdle) return;
    const kind = this.#kindOf(link.peer, link.group);
    this.#taken.set(kind, (this.#taken.get(kind) ?? 0) + 1);
  }

  /** Returns true if one more may be met in a group. */
  hasFor(peer: PeerRecord, group: InfoHash): boolean {
    const places = isNamed(peer) ? NAMED_PLACES : this.#isNear(peer.endpoint.host) ? NEAR_PLACES : FAR_PLACES;
    return (this.#taken.get(this.#kindOf(peer, group)) ?? 0) < places;
  }

  /** Returns true if an idle one has to go first. */
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
