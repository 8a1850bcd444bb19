/** Follows the networks of this machine's interfaces: they are "the local network" in every decision. */
import { existsSync, readFileSync } from 'node:fs';
import { BlockList } from 'node:net';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { SHORTEST_PREFIX, type Subnet } from './subnet.ts';
import { ipVersion } from '../ip-version.ts';

/** An interface with neighbours. */
export interface LocalInterface {
  readonly name: string;
  /**
   * Index of the interface. It differs from that of an earlier interface with the same name. 0 if the system does not
   * say.
   */
  readonly index: number;
  readonly ipv4: readonly LocalAddress[];
  /** IPv6 addresses, without zones. */
  readonly ipv6: readonly LocalAddress[];
}

export interface LocalAddress {
  readonly address: string;
  readonly prefixLength: number;
}

/** Limit on remembered answers about addresses. */
const MAX_ANSWERS = 1024;

/** Time for which a list of interfaces is valid, in milliseconds: interfaces come and go while a daemon runs. */
const FRESH_MS = 1000;

/**
 * Names of interfaces of container engines: bridges of Docker, Podman and CNI, and the host's side of Kubernetes
 * networks (flannel, Calico, Cilium, Weave, kube-proxy). They have no neighbours behind them, and there are often sixty
 * of them.
 */
const OF_CONTAINERS =
  /^(?:docker\d+|docker_gwbridge|br-[0-9a-f]{12}|podman\d+|nerdctl\d+|cni\d+|cni-.+|flannel[.-].+|cali[0-9a-f]{6,}|cilium_.+|weave|kube-.+)$/;

/** Local by definition: no router forwards these addresses. */
const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16);
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');
const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8);
LOOPBACK.addAddress('::1', 'ipv6');

/** Follows the interfaces. Every answer is about their current state. */
export class LocalNetworks {
  readonly #read: () => Interfaces;
  readonly #further: readonly Subnet[];
  #readAtMs = -Infinity;
  #interfaces: readonly LocalInterface[] = [];
  #networks = new BlockList();
  #own = new Set<string>();
  /** Answers of {@link includes} since the interfaces were read: a fetch asks thousands of times a second. */
  readonly #answers = new Map<string, boolean>();

  /**
   * @param read lists the interfaces as node:os does; replaced in tests
   * @param further networks that count as local, too, for example behind a router of the same house
   */
  constructor(read: () => Interfaces = networkInterfaces, further: readonly Subnet[] = []) {
    this.#read = read;
    this.#further = further;
  }

  /** The interfaces with neighbours, hardware first, without loopback and interfaces of containers. */
  get interfaces(): readonly LocalInterface[] {
    this.#refresh();
    return this.#interfaces;
  }

  /**
   * Returns true if an address is on loopback, in the network of an interface, or in a further one. Accepts IPv4-mapped
   * IPv6 addresses and zones (`fe80::1%eth0`). Returns false for everything else, such as names. Never throws.
   */
  includes(ip: string): boolean {
    this.#refresh();
    const known = this.#answers.get(ip);
    if (known !== undefined) return known;
    const answer = this.#decide(ip);
    if (this.#answers.size < MAX_ANSWERS) this.#answers.set(ip, answer);
    return answer;
  }

  #decide(ip: string): boolean {
    const [address = '', zone] = ip.split('%', 2);
    const family = ipVersion(address);
    if (family === 0) return false;
    const type = family === 4 ? 'ipv4' : 'ipv6';
    if (LOOPBACK.check(address, type)) return true;
    if (LINK_LOCAL.check(address, type)) return zone === undefined || !isOfContainers(zone);
    return this.#networks.check(address, type);
  }

  /** Returns true for one of this machine's own addresses. Ignores zones. */
  isOwn(ip: string): boolean {
    this.#refresh();
    return this.#own.has(withoutZone(ip));
  }

  #refresh(): void {
    const now = performance.now();
    if (now - this.#readAtMs < FRESH_MS) return;
    this.#readAtMs = now;
    this.#answers.clear();
    const all = Object.entries(this.#read()).map(([name, addresses = []]) => ({ name, addresses }));
    this.#own = new Set(all.flatMap(({ addresses }) => addresses.map(({ address }) => withoutZone(address))));
    const near = all.filter(
      ({ name, addresses }) => addresses.some(({ internal }) => !internal) && !isOfContainers(name),
    );
    this.#interfaces = near
      .map(({ name, addresses }) => asInterface(name, addresses))
      .map((one) => ({ one, rank: isHardware(one.name) ? 0 : 1 }))
      .toSorted((a, b) => a.rank - b.rank || a.one.index - b.one.index)
      .map(({ one }) => one);
    this.#networks = new BlockList();
    for (const { address, prefixLength, family } of this.#further)
      this.#networks.addSubnet(address, prefixLength, family);
    for (const { ipv4, ipv6 } of this.#interfaces) {
      for (const { address, prefixLength } of ipv4)
        if (prefixLength >= SHORTEST_PREFIX.ipv4) this.#networks.addSubnet(address, prefixLength, 'ipv4');
      for (const { address, prefixLength } of ipv6)
        if (prefixLength >= SHORTEST_PREFIX.ipv6) this.#networks.addSubnet(address, prefixLength, 'ipv6');
    }
  }
}

type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

function asInterface(name: string, addresses: readonly NetworkInterfaceInfo[]): LocalInterface {
  const of = (wanted: string): LocalAddress[] =>
    addresses
      .filter(({ family }) => family === wanted)
      .map(({ address, cidr }) => ({
        address: withoutZone(address),
        prefixLength: Number(cidr?.split('/')[1] ?? 128),
      }));
  // Link-local addresses have the index of their interface; without one, the system's files have it.
  const scope = addresses.find((one) => one.family === 'IPv6' && one.scopeid !== 0);
  const index = scope?.family === 'IPv6' ? scope.scopeid : Number(readOf(name, 'ifindex') ?? 0);
  return { name, index, ipv4: of('IPv4'), ipv6: of('IPv6') };
}

/** Returns true for the host's end of a container's interface. It is a port of a bridge, where its packets arrive. */
function isOfContainers(name: string): boolean {
  return OF_CONTAINERS.test(name) || existsSync(`/sys/class/net/${name}/brport`);
}

function isHardware(name: string): boolean {
  return existsSync(`/sys/class/net/${name}/device`);
}

function readOf(name: string, file: string): string | undefined {
  try {
    return readFileSync(`/sys/class/net/${name}/${file}`, 'utf8').trim();
  } catch {
    return undefined; // the interface no longer exists
  }
}

function withoutZone(ip: string): string {
  return ip.split('%', 1)[0] ?? '';
}
