import type { LocalNetworks } from '../discovery/local-networks.ts';
import { isSilent, noteUnreachable, type PeerRecord, type PeerTable } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import { MAX_PEERS } from '../wire/bounds.ts';
import type { Link } from './link/link.ts';

/** Time before a member whose connection ended is tried again; shorter for one that has sent good bytes. */
const RECONNECT_MS = 10_000;
const RECONNECT_PROVEN_MS = 1_000;
/** Time before an address is tried again that led to a connected member, or to ourselves. */
export const ALIAS_MS = 300_000;

/** A peer that may be a member of one of our groups. */
interface Known {
  readonly peer: PeerRecord;
  /** The group that it is known to be in. */
  group: InfoHash | undefined;
  /** Groups in which it was tried without success. */
  readonly refused: Set<InfoHash>;
  /** True once it was tried for all groups and spoke the exchange in none. */
  isForeign: boolean;
  /** Time before which it is not connected to, in milliseconds of `performance.now()`. */
  notBeforeMs: number;
}

/**
 * Our groups, and peers that may be members of them. Decides in which group to try each peer, and when. Without I/O.
 */
export class KnownPeers {
  readonly #peers: Pick<PeerTable, 'get'>;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #groups = new Set<InfoHash>();
  /** Groups that are joined only on the local network. */
  readonly #nearGroups = new Set<InfoHash>();
  readonly #known = new Map<string, Known>();

  constructor(peers: Pick<PeerTable, 'get'>, networks: Pick<LocalNetworks, 'includes'>) {
    this.#peers = peers;
    this.#networks = networks;
  }

  /** Number of peers. */
  get size(): number {
    return this.#known.size;
  }

  get groups(): ReadonlySet<InfoHash> {
    return this.#groups;
  }

  /** Adds a group. All peers may be in it, so each is tried again. @returns false if it was joined before */
  join(group: InfoHash, { isNear }: { readonly isNear: boolean }): boolean {
    if (this.#groups.has(group)) return false;
    if (isNear) this.#nearGroups.add(group);
    this.#groups.add(group);
    for (const known of this.#known.values()) {
      known.refused.delete(group); // it may have been left before
      known.notBeforeMs = 0;
    }
    return true;
  }

  /** Removes a group. Its members may be in another one, too. @returns false if it was not joined */
  leave(group: InfoHash): boolean {
    if (!this.#groups.delete(group)) return false;
    this.#nearGroups.delete(group);
    for (const known of this.#known.values()) if (known.group === group) known.group = undefined;
    return true;
  }

  /** Adds a peer. @returns false if it is here already */
  add(peer: PeerRecord): boolean {
    if (this.#known.has(peer.address)) return false;
    if (this.#known.size >= MAX_PEERS) this.#forgetEvicted();
    this.#known.set(peer.address, { peer, group: undefined, refused: new Set(), isForeign: false, notBeforeMs: 0 });
    return true;
  }

  /** Returns true if a peer is not a member of our groups, as far as is known. */
  isForeign({ address }: PeerRecord): boolean {
    return this.#groups.size === 0 || this.#known.get(address)?.isForeign === true;
  }

  /** Returns true if members of a group may be met at this host. */
  mayMeet(group: InfoHash, host: string): boolean {
    return !this.#nearGroups.has(group) || this.#networks.includes(host);
  }

  /** Returns the peers that may be connected to now. */
  ready(nowMs: number): PeerRecord[] {
    return [...this.#known.values()]
      .filter(({ peer, notBeforeMs }) => nowMs >= Math.max(peer.notBeforeMs, notBeforeMs))
      .map(({ peer }) => peer);
  }

  /**
   * Returns the group to try a peer in. Undefined if there is none.
   *
   * @param hasPlace returns true if one more member of a group may be connected to. Default: always true
   */
  groupFor({ address }: PeerRecord, hasPlace: (group: InfoHash) => boolean = () => true): InfoHash | undefined {
    const known = this.#known.get(address);
    if (known === undefined) return undefined;
    const { peer, group, refused } = known;
    if (group !== undefined && !refused.has(group)) return hasPlace(group) ? group : undefined;
    for (const candidate of this.#groups)
      if (!refused.has(candidate) && this.mayMeet(candidate, peer.endpoint.host) && hasPlace(candidate))
        return candidate;
    return undefined;
  }

  /** Records that a peer turned out to be a member. */
  onOpened({ peer, group, isOutgoing }: Pick<Link, 'peer' | 'group' | 'isOutgoing'>): void {
    const known = this.#known.get(peer.address);
    if (known === undefined) return;
    known.isForeign = false;
    if (isOutgoing) known.group = group;
  }

  /** Records the end of a connection that we made. @returns milliseconds for which the peer should be left alone */
  onEnded(link: Pick<Link, 'peer' | 'group' | 'hasAnswered' | 'hasConnected' | 'isOurselves'>): number {
    const { peer } = link;
    const known = this.#known.get(peer.address);
    if (link.isOurselves) return ALIAS_MS;
    if (link.hasAnswered) {
      peer.hits++;
    } else {
      peer.misses++;
      peer.missedAtMs = performance.now();
      if (!link.hasConnected) noteUnreachable(peer);
      else if (peer.bytes === 0) known?.refused.add(link.group);
    }
    if (known !== undefined && this.groupFor(peer) === undefined) {
      known.isForeign = true;
      known.refused.clear(); // it may join one of them
      return RECONNECT_MS;
    }
    if (!link.hasAnswered && peer.bytes === 0) return 0;
    return peer.bytes > 0 && !isSilent(peer) ? RECONNECT_PROVEN_MS : RECONNECT_MS;
  }

  /** Leaves a peer alone for at least this time. @returns false if it is not here */
  pause({ address }: PeerRecord, forMs: number): boolean {
    const known = this.#known.get(address);
    if (known === undefined) return false;
    known.notBeforeMs = Math.max(known.notBeforeMs, performance.now() + forMs);
    return true;
  }

  /** Forgets peers that the peer table has forgotten. */
  #forgetEvicted(): void {
    for (const [address, { peer }] of this.#known) if (this.#peers.get(address) !== peer) this.#known.delete(address);
  }
}
