import { isSilent, isSlowToAnswer, type PeerRecord } from '../discovery/peer-table.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { KnownPeers } from './known-peers.ts';
import type { Link } from './link/link.ts';
import type { LinkContext } from './link/link-context.ts';
import { isNamed, Places } from './places.ts';

/**
 * A connected member without any wanted file is replaced by another after `IDLE_MS`, and tried again after `LEFT_MS`.
 */
const IDLE_MS = 2_000;
const LEFT_MS = 60_000;
/** Limit on pending connections while places are free: machines that are off do not answer for a long time. */
const MAX_DIALS = 256;
/** Interval of checks for free places. */
const FILL_EVERY_MS = 150;

interface DialingOptions extends Pick<LinkContext, 'peers' | 'networks'> {
  readonly known: KnownPeers;
  /** Links that are open, in either direction. */
  readonly open: ReadonlySet<Link>;
  /** Connects to a peer under the infohash of a group. */
  readonly dial: (peer: PeerRecord, group: InfoHash) => Link;
}

/** The connections that we make: to which peers, and when. */
export class Dialing {
  readonly #options: DialingOptions;
  /** Links that we opened or are opening, by the peer's address. */
  readonly #dialed = new Map<string, Link>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: DialingOptions) {
    this.#options = options;
  }

  /**
   * Connects to further members while there are places. A member that does not answer at once, is silent when asked, or
   * has no wanted file does not keep others from being tried.
   */
  fill(): void {
    const { known, open, peers, networks, dial } = this.#options;
    if (this.#isClosed || known.groups.size === 0) return;
    const now = performance.now();
    const places = new Places((host) => networks.includes(host));
    for (const link of this.#dialed.values())
      if (!isSlowToAnswer(link.peer, now) && !isSilent(link.peer, now)) places.count(link);
    const connected = new Set([...open].map(({ peer }) => peer.address));
    const rest = known.ready(now).filter(({ address }) => !this.#dialed.has(address) && !connected.has(address));
    let isOneLeftOut = false;
    for (const peer of peers.choose(Infinity, rest)) {
      if (this.#dialed.size >= MAX_DIALS) break;
      const group = known.groupFor(peer, (one) => places.hasFor(peer, one));
      if (group === undefined) continue;
      if (places.isIdleFull && !isNamed(peer)) {
        isOneLeftOut = true;
        continue;
      }
      const link = dial(peer, group);
      this.#dialed.set(peer.address, link);
      places.count(link);
    }
    if (isOneLeftOut) this.#leaveIdle(now);
    if (this.#timer !== undefined || this.#dialed.size >= known.size) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.fill();
    }, FILL_EVERY_MS).unref();
  }

  /** Records the end of a connection that we made, or could not make. */
  onEnded(link: Link): void {
    const { peer } = link;
    this.#dialed.delete(peer.address);
    peer.dialedAtMs = undefined;
    const waitMs = this.#options.known.onEnded(link);
    if (waitMs > 0) this.pause(peer, waitMs);
  }

  /** Leaves a peer alone for at least this time. */
  pause(peer: PeerRecord, forMs: number): void {
    if (this.#options.known.pause(peer, forMs)) setTimeout(() => this.fill(), forMs + 1).unref();
  }

  /** Makes no further connections. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Makes room for a member that may have more than the connected ones. */
  #leaveIdle(nowMs: number): void {
    let longest: Link | undefined;
    for (const link of this.#dialed.values())
      if (link.isIdle && !isNamed(link.peer) && (link.idleSinceMs ?? nowMs) < (longest?.idleSinceMs ?? nowMs - IDLE_MS))
        longest = link;
    if (longest === undefined) return;
    this.pause(longest.peer, LEFT_MS);
    longest.drop();
  }
}
