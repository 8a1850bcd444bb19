import { hostKeyOf } from '../wire/address-range.ts';
import { LAN_PACKETS_PER_SECOND } from '../wire/bounds.ts';
import { PacketBudget } from '../wire/packet-budget.ts';
import { CacheServices, formatQuery, MDNS_GROUPS, MDNS_PORT, type CacheService } from './cache-services.ts';
import { LanGroup } from './lan-group.ts';
import { LocalNetworks } from './local-networks.ts';
import { placesIn } from './places.ts';
import { isIPv6 } from '../ip-version.ts';

export interface CacheBrowserOptions {
  /** Called with the known caches, whenever they change. */
  readonly onServices: (services: readonly CacheService[]) => void;
  /** The local networks. Default: those of this machine. */
  readonly networks?: LocalNetworks;
  /** Address of the interface to use. Default: all. */
  readonly interfaceAddress?: string | undefined;
  /** UDP port of the group. Default: 5353. */
  readonly port?: number;
}

/** Milliseconds from the start to each question. The last interval is repeated (RFC 6762, 5.2). */
const ASK_AT_MS = [0, 1_000, 3_000, 9_000, 27_000];
const ASK_EVERY_MS = 5 * 60_000;
const FOLLOW_MS = 2_000;
/** Shortest time between questions for missing records. The first one is asked at once. */
const ASK_AGAIN_MS = 1_000;

/**
 * Looks for binary caches that announce themselves on the local network by mDNS, over IPv4 and IPv6, on all interfaces
 * with neighbours. Uses dns-packet: multicast-dns and bonjour-service do not follow interfaces, and send on only one.
 * Discovery is an extra: if it fails, no such caches are found.
 */
export class CacheBrowser implements AsyncDisposable {
  readonly #options: CacheBrowserOptions;
  readonly #networks: LocalNetworks;
  readonly #services = new CacheServices();
  readonly #groups: readonly LanGroup[];
  readonly #budget = new PacketBudget(LAN_PACKETS_PER_SECOND, () => performance.now(), hostKeyOf);
  readonly #timers = new Set<NodeJS.Timeout>();
  #following: Promise<unknown> = Promise.resolve();
  #told = '';
  #askedAtMs = -Infinity;
  #isClosed = false;

  private constructor(options: CacheBrowserOptions) {
    this.#options = options;
    this.#networks = options.networks ?? new LocalNetworks();
    const { port = MDNS_PORT } = options;
    this.#groups = (['ipv4', 'ipv6'] as const).map(
      (family) =>
        new LanGroup({
          family,
          address: MDNS_GROUPS[family],
          port,
          sendPort: port, // answers to other ports are for one-shot clients, and some responders never send them
          ttl: 255, // RFC 6762, 11
          onPacket: (packet, from) => this.#receive(packet, from),
          onWarning: () => undefined,
        }),
    );
  }

  /** Joins the groups and asks. Never rejects. */
  static async start(options: CacheBrowserOptions): Promise<CacheBrowser> {
    const browser = new CacheBrowser(options);
    await browser.#follow();
    for (const ms of ASK_AT_MS) browser.#later(ms, () => browser.#ask());
    browser.#every(ASK_EVERY_MS, () => browser.#ask());
    browser.#every(FOLLOW_MS, () => void browser.#follow().then((isNew) => isNew && browser.#ask()));
    return browser;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#following;
    await Promise.all(this.#groups.map((group) => group[Symbol.asyncDispose]()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(packet: Buffer, from: string): void {
    if (this.#isClosed || !this.#budget.admit(from, packet.length) || !this.#networks.includes(from)) return;
    const now = performance.now();
    this.#services.take(packet, now, from);
    const services = this.#reachable(now);
    const text = JSON.stringify(services);
    if (text !== this.#told) {
      this.#told = text;
      this.#options.onServices(services);
    }
    if (now - this.#askedAtMs < ASK_AGAIN_MS) return;
    const questions = this.#services.missing(now);
    if (questions.length === 0) return;
    this.#askedAtMs = now;
    for (const group of this.#groups) group.send(formatQuery(questions));
  }

  /**
   * Returns the caches at local addresses of other machines. Leaves out link-local addresses, which do not fit into a
   * URL.
   */
  #reachable(nowMs: number): CacheService[] {
    const isNear = (host: string): boolean =>
      this.#networks.includes(host) && !this.#networks.isOwn(host) && !(isIPv6(host) && /^fe[89ab]/i.test(host));
    return this.#services.list(nowMs).flatMap(({ instance, endpoints }) => {
      const near = endpoints.filter(({ host }) => isNear(host));
      return near.length === 0 ? [] : [{ instance, endpoints: near }];
    });
  }

  #ask(): void {
    for (const group of this.#groups) group.send(formatQuery());
  }

  /** Joins interfaces that have come up. @returns true if there is one */
  #follow(): Promise<boolean> {
    const follow = async (): Promise<boolean> => {
      if (this.#isClosed) return false;
      const { ipv4, ipv6 } = placesIn(this.#networks.interfaces, this.#options.interfaceAddress);
      const [ofIPv4, ofIPv6] = this.#groups;
      const joined = await Promise.all([ofIPv4?.follow(ipv4), ofIPv6?.follow(ipv6)]);
      return joined.includes(true);
    };
    const following = this.#following.then(follow).catch(() => false);
    this.#following = following;
    return following;
  }

  #later(ms: number, work: () => void): void {
    this.#timers.add(setTimeout(work, ms).unref());
  }

  #every(ms: number, work: () => void): void {
    this.#timers.add(setInterval(work, ms).unref());
  }
}
