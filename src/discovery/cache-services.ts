/** Reads announcements of binary caches on the local network (DNS-SD, RFC 6763) from packets of mDNS (RFC 6762). */
import { isIPv4 } from 'node:net';
import { decode, encode, type Answer, type Question } from 'dns-packet';
import { FairTable } from '../wire/fair-table.ts';
import { isPort, type Endpoint } from './endpoint.ts';
import { isIPv6 } from '../ip-version.ts';

/** The multicast groups of mDNS, and their UDP port. */
export const MDNS_GROUPS = { ipv4: '224.0.0.251', ipv6: 'ff02::fb' } as const;
export const MDNS_PORT = 5353;

/** The service type with which nix-cache-beacon and others announce a cache. */
export const CACHE_SERVICE = '_nix_binary_cache._tcp.local';

/**
 * The longest packet that is read (RFC 6762, 17). dns-packet follows a chain of compressed names again for each record:
 * 64 KiB take 100 ms.
 */
const MAX_PACKET_BYTES = 9000;
/** Limits on remembered services and hosts, and on their time to live. */
const MAX_RECORDS = 64;
const MAX_TTL_S = 75 * 60;

/** A cache on the local network: over HTTP, at the first address that this machine reaches. */
export interface CacheService {
  /** Its name in reports: `harmonia on nas`. */
  readonly instance: string;
  readonly endpoints: readonly Endpoint[];
}

/** Formats a packet of questions: for missing records, or for all caches. */
export function formatQuery(questions: readonly Question[] = [{ name: CACHE_SERVICE, type: 'PTR' }]): Buffer {
  return encode({ type: 'query', questions: [...questions] });
}

interface Fresh<T> {
  readonly value: T;
  readonly untilMs: number;
}

/** Facts of one kind. A host that announces many leaves room for those of others. */
class Records<T> {
  readonly #table = new FairTable<{ readonly key: string; readonly from: string; fact: Fresh<T> }>({
    capacity: MAX_RECORDS,
    perHost: MAX_RECORDS,
    hostOf: ({ from }) => from,
    isKept: () => false,
  });

  get(key: string): Fresh<T> | undefined {
    return this.#table.get(key)?.fact;
  }

  values(): Fresh<T>[] {
    return Array.from(this.#table.values(), ({ fact }) => fact);
  }

  /**
   * Stores a fact. A time to live of 0 removes it.
   *
   * @param from address of the host that has announced it
   */
  put(key: string, fact: Fresh<T>, from: string, nowMs: number): void {
    for (const {
      key: old,
      fact: { untilMs },
    } of this.#table.values())
      if (untilMs <= nowMs) this.#table.delete(old);
    const known = this.#table.get(key);
    if (fact.untilMs <= nowMs) this.#table.delete(key);
    else if (known === undefined) this.#table.add(key, { key, from, fact });
    else known.fact = fact;
  }
}

/** Announced facts about the caches on the network, each with its time to live. */
export class CacheServices {
  readonly #instances = new Records<string>();
  readonly #servers = new Records<{ readonly target: string; readonly port: number }>();
  /** Addresses of the services' hosts, by host. Phones and printers announce theirs, too: those are not kept. */
  readonly #addresses = new Map<string, Records<string>>();

  /**
   * Reads the answers of a packet. Ignores questions and malformed packets. Never throws.
   *
   * @param nowMs of a clock that never goes back
   * @param from address of the host that has sent it
   */
  take(packet: Buffer, nowMs: number, from: string): void {
    const answers = answersOf(packet);
    const isAddress = ({ type }: Answer): boolean => type === 'A' || type === 'AAAA';
    for (const answer of answers.toSorted((a, b) => Number(isAddress(a)) - Number(isAddress(b)))) {
      const untilMs = nowMs + Math.min(MAX_TTL_S, ttlOf(answer)) * 1000;
      const name = answer.name.toLowerCase();
      if (answer.type === 'PTR' && name === CACHE_SERVICE && isInstance(answer.data))
        this.#instances.put(answer.data.toLowerCase(), { value: answer.data, untilMs }, from, nowMs);
      if (answer.type === 'SRV' && isInstance(name) && isPort(answer.data.port))
        this.#servers.put(
          name,
          { value: { target: answer.data.target.toLowerCase(), port: answer.data.port }, untilMs },
          from,
          nowMs,
        );
      if ((answer.type === 'A' && isIPv4(answer.data)) || (answer.type === 'AAAA' && isIPv6(answer.data))) {
        const hosts = this.#hosts(nowMs);
        for (const host of this.#addresses.keys()) if (!hosts.has(host)) this.#addresses.delete(host);
        if (!hosts.has(name)) continue;
        const known = this.#addresses.get(name) ?? new Records<string>();
        known.put(answer.data, { value: answer.data, untilMs }, from, nowMs);
        this.#addresses.set(name, known);
      }
    }
  }

  /** Returns the hosts of the services. Their number is bounded. */
  #hosts(nowMs: number): Set<string> {
    return new Set(
      [...this.#servers.values()].filter(({ untilMs }) => untilMs > nowMs).map(({ value }) => value.target),
    );
  }

  /** Lists the caches with a known address. */
  list(nowMs: number): CacheService[] {
    return this.#fresh(nowMs).flatMap(({ instance, server, addresses }) =>
      server === undefined || addresses.length === 0
        ? []
        : [{ instance, endpoints: addresses.map((host) => ({ host, port: server.port })) }],
    );
  }

  /** Returns the questions for missing records of announced caches. */
  missing(nowMs: number): Question[] {
    return this.#fresh(nowMs).flatMap(({ name, server, addresses }): Question[] => {
      if (server === undefined) return [{ name, type: 'SRV' }];
      if (addresses.length > 0) return [];
      return [
        { name: server.target, type: 'A' },
        { name: server.target, type: 'AAAA' },
      ];
    });
  }

  #fresh(nowMs: number): {
    name: string;
    instance: string;
    server: { readonly target: string; readonly port: number } | undefined;
    addresses: readonly string[];
  }[] {
    return [...this.#instances.values()]
      .filter(({ untilMs }) => untilMs > nowMs)
      .map(({ value: name }) => {
        const found = this.#servers.get(name.toLowerCase());
        const server = found !== undefined && found.untilMs > nowMs ? found.value : undefined;
        const known = server && this.#addresses.get(server.target);
        const addresses = [...(known?.values() ?? [])]
          .filter(({ untilMs }) => untilMs > nowMs)
          .map(({ value }) => value);
        // IPv4 first: most caches listen there.
        return {
          name,
          instance: labelOf(name),
          server,
          addresses: addresses.toSorted((a, b) => Number(isIPv6(a)) - Number(isIPv6(b))),
        };
      });
  }
}

function answersOf(packet: Buffer): Answer[] {
  if (packet.length > MAX_PACKET_BYTES) return [];
  try {
    const { type, answers = [], additionals = [] } = decode(packet);
    return type === 'response' ? [...answers, ...additionals] : [];
  } catch {
    return [];
  }
}

function ttlOf(answer: Answer): number {
  return 'ttl' in answer && typeof answer.ttl === 'number' ? answer.ttl : 0;
}

function isInstance(name: string): boolean {
  return name.length <= 255 && name.toLowerCase().endsWith(`.${CACHE_SERVICE}`);
}

/** Returns the first part of an instance's name. It may contain dots and spaces. */
function labelOf(name: string): string {
  return name.slice(0, -CACHE_SERVICE.length - 1);
}
