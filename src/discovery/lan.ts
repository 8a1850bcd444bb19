/**
 * Finds peers on the local network: local service discovery (BEP 14), over IPv4 and IPv6 multicast.
 *
 * Written here because the npm package bittorrent-lsd can neither choose its interface nor answer, and does not filter
 * by infohash. Packets keep the default TTL of 1, so they do not leave the link. Discovery is an extra: a fault of a
 * network causes a warning, never an exception.
 */
import { randomBytes } from 'node:crypto';
import type { InfoHash } from '../nix/brands.ts';
import type { Endpoint } from './endpoint.ts';
import { gapMs, intervalMs, spreadMs } from './announcement-times.ts';
import { hostKeyOf } from '../wire/address-range.ts';
import { LAN_PACKETS_PER_SECOND } from '../wire/bounds.ts';
import { PacketBudget } from '../wire/packet-budget.ts';
import { formatAnnouncements, GROUP_PORT, GROUPS, parseAnnouncement, QUESTION } from './lan-announcement.ts';
import { LanGroup } from './lan-group.ts';
import { LocalNetworks } from './local-networks.ts';
import { placesIn } from './places.ts';

export interface LanDiscoveryOptions {
  /** The TCP port at which peers reach us. */
  readonly peerPort: number;
  /** Returns our swarms. Called for every packet sent or received. */
  readonly infoHashes: () => readonly InfoHash[];
  /** Called each time a neighbour announces one of our infohashes. */
  readonly onPeer: (peer: Endpoint, infoHash: InfoHash) => void;
  /** Called if an interface or the port cannot be used; discovery continues without it. Default: nothing. */
  readonly onWarning?: (error: Error) => void;
  /** The local networks. Default: those of this machine. */
  readonly networks?: LocalNetworks;
  /** Address of the interface to use. Default: all except loopback, including those that come up later. */
  readonly interfaceAddress?: string;
  /** UDP port of the group. Default: 6771. */
  readonly groupPort?: number;
  /** Longest time between two announcements. Default: 300,000 (5 minutes, as in BEP 14). */
  readonly intervalMs?: number;
  /** Time between two checks of the interfaces. Default: 2,000. */
  readonly followMs?: number;
  /** False to listen without sending. Default: true. */
  readonly announces?: boolean;
}

const INTERVAL_MS = 5 * 60_000;
/** A check takes about 0.1 ms. */
const FOLLOW_MS = 2000;
/** Time in which a neighbour heard over IPv6 may also be heard over IPv4: then it is one peer, not two. */
const TWIN_MS = 300;
/** Limit on remembered neighbours, since a noisy one could name many. */
const MAX_KNOWN = 4096;

/** Announces our swarms on the local network. Reports the neighbours in the same swarms. */
export class LanDiscovery implements AsyncDisposable {
  readonly #options: LanDiscoveryOptions;
  readonly #networks: LocalNetworks;
  readonly #cookie = `narswarm-${randomBytes(8).toString('hex')}`;
  readonly #ipv4: LanGroup;
  readonly #ipv6: LanGroup;
  readonly #known = new BoundedSet(MAX_KNOWN);
  /** Hosts of the known neighbours. One host may run several processes. */
  readonly #hosts = new BoundedSet(MAX_KNOWN);
  readonly #budget = new PacketBudget(LAN_PACKETS_PER_SECOND, () => performance.now(), hostKeyOf);
  /** Cookies of the neighbours heard over IPv4. */
  readonly #heardOverIPv4 = new BoundedSet(MAX_KNOWN);
  #following: Promise<boolean> = Promise.resolve(false);
  #timer: NodeJS.Timeout | undefined;
  #followTimer: NodeJS.Timeout | undefined;
  /** Times of the next timer and of the last announcement, in milliseconds of `performance.now()`. */
  #dueAt = Infinity;
  #lastAt = -Infinity;
  /** Announcements since the last change of the interfaces. */
  #announced = 0;
  #isClosed = false;

  private constructor(options: LanDiscoveryOptions) {
    this.#options = options;
    this.#networks = options.networks ?? new LocalNetworks();
    const group = (family: 'ipv4' | 'ipv6'): LanGroup =>
      new LanGroup({
        family,
        address: GROUPS[family],
        port: options.groupPort ?? GROUP_PORT,
        onPacket: (packet, from) => this.#receive(packet, from, family),
        onWarning: (error) => options.onWarning?.(error),
      });
    this.#ipv4 = group('ipv4');
    this.#ipv6 = group('ipv6');
  }

  /** Joins the group and announces at once. Never rejects: failures go to `onWarning`. */
  static async start(options: LanDiscoveryOptions): Promise<LanDiscovery> {
    const discovery = new LanDiscovery(options);
    await discovery.#follow();
    discovery.#announceNow();
    discovery.#followTimer = setInterval(
      () => void discovery.#follow().then((isNew) => isNew && discovery.announce()),
      options.followMs ?? FOLLOW_MS,
    );
    return discovery;
  }

  /** True if there is an interface on which neighbours may be. */
  get hasPlaces(): boolean {
    const { ipv4, ipv6 } = placesIn(this.#networks.interfaces, this.#options.interfaceAddress);
    return ipv4.length + ipv6.length > 0;
  }

  /** Announces now, or a moment after the last announcement. Does nothing once closed. */
  announce(): void {
    this.#announceIn(0);
  }

  /** Leaves the group and frees the ports. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#followTimer);
    await this.#following;
    await Promise.all([this.#ipv4[Symbol.asyncDispose](), this.#ipv6[Symbol.asyncDispose]()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(packet: Buffer, address: string, family: 'ipv4' | 'ipv6'): void {
    if (!this.#budget.admit(address, packet.length)) return;
    // Refuses spoofed packets and routed multicast.
    if (!this.#networks.includes(address)) return;
    if (packet.toString('latin1', 0, QUESTION.length) === QUESTION)
      return this.#announceIn(Math.random() * spreadMs(this.#hosts.size));
    const announcement = parseAnnouncement(packet, address);
    if (announcement === undefined || announcement.cookie === this.#cookie) return;
    const { peer, cookie, infoHashes } = announcement;
    const shared = this.#options.infoHashes().filter((infoHash) => infoHashes.includes(infoHash));
    if (shared.length === 0) return;
    this.#hosts.add(peer.host);
    // A new cookie means a restarted neighbour, which has forgotten us.
    if (this.#known.add(`${peer.host}:${peer.port} ${cookie}`))
      this.#announceIn(Math.random() * spreadMs(this.#hosts.size));
    const report = (): void => {
      for (const infoHash of shared) this.#options.onPeer(peer, infoHash);
    };
    if (family === 'ipv4') this.#heardOverIPv4.add(cookie);
    if (family === 'ipv4' || cookie === '' || !this.#ipv4.isJoined) return report();
    setTimeout(() => {
      if (!this.#isClosed && !this.#heardOverIPv4.has(cookie)) report();
    }, TWIN_MS).unref();
  }

  #announceIn(delayMs: number): void {
    const now = performance.now();
    const dueAt = Math.max(now + delayMs, this.#lastAt + gapMs(this.#hosts.size));
    if (this.#isClosed || dueAt >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => this.#announceNow(), dueAt - now);
  }

  #announceNow(): void {
    this.#dueAt = Infinity;
    const { groupPort: port = GROUP_PORT, peerPort, infoHashes, announces } = this.#options;
    const ours = announces === false ? [] : infoHashes();
    if (ours.length > 0) {
      this.#lastAt = performance.now(); // the first followed swarm need not wait for a gap
      this.#announced++;
    }
    for (const family of ['ipv4', 'ipv6'] as const) {
      const group = family === 'ipv4' ? this.#ipv4 : this.#ipv6;
      for (const packet of formatAnnouncements(peerPort, this.#cookie, ours, { host: GROUPS[family], port }))
        group.send(packet);
    }
    this.#announceIn(intervalMs(this.#announced, this.#options.intervalMs ?? INTERVAL_MS));
  }

  /**
   * Joins interfaces that have come up: a service may start before the network, and a laptop moves.
   *
   * @returns true if there is one
   */
  #follow(): Promise<boolean> {
    this.#following = this.#following.then(async () => {
      if (this.#isClosed) return false;
      const { ipv4, ipv6 } = placesIn(this.#networks.interfaces, this.#options.interfaceAddress);
      // IPv4 first: a neighbour heard over both should be heard over IPv4.
      const isNewOverIPv4 = await this.#ipv4.follow(ipv4);
      if (!(await this.#ipv6.follow(ipv6)) && !isNewOverIPv4) return false;
      // A neighbour from another network may be a different machine here, or be reached in another way.
      this.#known.clear();
      this.#hosts.clear();
      this.#heardOverIPv4.clear();
      this.#announced = 0;
      return true;
    });
    return this.#following;
  }
}

/** A set that forgets everything when it is full: then neighbours are answered again. */
class BoundedSet {
  readonly #items = new Set<string>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#items.size;
  }

  has(item: string): boolean {
    return this.#items.has(item);
  }

  clear(): void {
    this.#items.clear();
  }

  /** Adds an item. @returns true if it was new */
  add(item: string): boolean {
    if (this.#items.has(item)) return false;
    if (this.#items.size === this.#max) this.#items.clear();
    this.#items.add(item);
    return true;
  }
}
