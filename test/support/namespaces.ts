/**
 * A local network of hosts, each in a network namespace of its own, joined by a bridge in another one. Nothing of the
 * machine's own network is touched. Needs root, and `ip`, `tc` and `nft` (tools.ts: iproute, nftables).
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** The first three numbers of every host's IPv4 address, unless a Lan has others. */
const SUBNET = '10.77.0';
/** The prefix of every host's unique local IPv6 address. */
const ULA_PREFIX = 'fd77::';
const INTERFACE = 'eth0';
const NAME_PREFIX = 'narswarm-test';

export interface HostOptions {
  /** Default: `v4`, IPv4 and an IPv6 link-local address, as most home networks. `link-local` and `ula` have no IPv4. */
  readonly addresses?: 'v4' | 'v4-only' | 'link-local' | 'ula' | 'none';
  /** Rate of its line in each direction, in kbit/s. Default: no limit. */
  readonly upKbit?: number;
  readonly downKbit?: number;
  /**
   * Ports that a firewall like NixOS' opens. All other unrequested packets are dropped. Default: no
   * firewall.
   */
  readonly firewall?: { readonly tcp?: readonly number[]; readonly udp?: readonly number[] };
}

/** For `before`: fails with the reason if this machine cannot make network namespaces. */
export function requireNamespaces(): void {
  assert.equal(process.getuid?.(), 0, 'hosts in network namespaces need root: run this test as root');
  for (const [program, debianPackage] of [
    ['ip', 'iproute2'],
    ['tc', 'iproute2'],
    ['nft', 'nftables'],
  ] as const) {
    const { error } = spawnSync(program, ['-V']);
    assert.equal(error, undefined, `${program} does not run: install ${debianPackage}`);
  }
}

/** The bridge and the hosts on it. Disposing of it kills the processes in the hosts and removes them. */
export class Lan implements AsyncDisposable {
  /** The first three numbers of every host's IPv4 address. */
  readonly subnet: string;
  readonly #prefix: string;
  readonly #hosts: Host[] = [];
  readonly #atExit = (): void => this.#remove();
  #isOpen = true;

  private constructor(prefix: string, subnet: string) {
    this.#prefix = prefix;
    this.subnet = subnet;
    process.once('exit', this.#atExit); // also after an exception that nobody caught
  }

  /**
   * Makes the bridge. Removes namespaces of test processes that were killed.
   *
   * @param subnet the first three numbers of every host's IPv4 address
   */
  static open({ subnet = SUBNET }: { readonly subnet?: string } = {}): Lan {
    requireNamespaces();
    removeAbandoned();
    const lan = new Lan(`${NAME_PREFIX}-${process.pid}-${counter++}`, subnet);
    run('ip', 'netns', 'add', lan.switchName);
    batch(lan.switchName, ['link add br0 type bridge mcast_snooping 0', 'link set br0 up', 'link set lo up']);
    return lan;
  }

  get switchName(): string {
    return `${this.#prefix}-switch`;
  }

  /** @param name at most 12 letters, digits or hyphens */
  host(name: string, options: HostOptions = {}): Host {
    assert.ok(this.#isOpen);
    assert.match(name, /^[a-z0-9-]{1,12}$/);
    const host = new Host(`${this.#prefix}-${name}`, `p-${name}`, this, this.#hosts.length + 1, options);
    this.#hosts.push(host);
    host.create();
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#atExit);
    this.#remove();
    await sleep(0);
  }

  #remove(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const host of this.#hosts) removeNamespace(host.namespace);
    removeNamespace(this.switchName);
  }
}

/** One machine on the bridge. */
export class Host {
  readonly namespace: string;
  /** Its IPv4 address and its unique local IPv6 address, if it has them. */
  readonly ipv4: string;
  readonly ula: string;
  readonly #mac: string;
  readonly #port: string;
  readonly #lan: Lan;
  readonly #options: HostOptions;

  constructor(namespace: string, port: string, lan: Lan, number: number, options: HostOptions) {
    this.namespace = namespace;
    this.#port = port;
    this.#lan = lan;
    this.#options = options;
    this.#mac = `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`;
    this.ipv4 = `${lan.subnet}.${number}`;
    this.ula = `${ULA_PREFIX}${number.toString(16)}`;
  }

  /** Its address as a part of a URL. */
  get inUrl(): string {
    return this.#options.addresses === 'ula' ? `[${this.ula}]` : this.ipv4;
  }

  /** Words before a command that run it in here; the process keeps its pid. */
  get wrapper(): readonly [string, ...string[]] {
    return ['ip', 'netns', 'exec', this.namespace];
  }

  /** Its IPv6 link-local address, without the zone. */
  get linkLocal(): string {
    const text = this.run('ip', '-6', '-o', 'address', 'show', 'dev', INTERFACE, 'scope', 'link');
    return /inet6 (fe80[0-9a-f:]+)/.exec(text)?.[1] ?? assert.fail(`no link-local address: ${text}`);
  }

  /** Runs a command in here to its end. Fails the test if it fails. @returns its standard output */
  run(...command: readonly [string, ...string[]]): string {
    return run(...this.wrapper, ...command);
  }

  /** Runs lines of `ip` in here, such as `link set eth0 mtu 1400`, all in one process. */
  ip(...lines: readonly string[]): void {
    batch(this.namespace, lines);
  }

  /** Makes the namespace; Lan calls it once. */
  create(): void {
    run('ip', 'netns', 'add', this.namespace);
    const { addresses = 'v4', firewall } = this.#options;
    const hasIPv6 = addresses !== 'v4-only' && addresses !== 'none';
    // Duplicate address detection would keep each address from being used for a second or two.
    this.run(
      'sh',
      '-c',
      `for dir in all default; do
        echo 0 >/proc/sys/net/ipv6/conf/$dir/accept_dad; echo ${hasIPv6 ? 0 : 1} >/proc/sys/net/ipv6/conf/$dir/disable_ipv6
      done`,
    );
    this.ip('link set lo up');
    if (firewall !== undefined) this.setFirewall(firewall);
    this.attach();
  }

  /** Makes the interface and gives it its addresses; after {@link detach}, the same ones. */
  attach(): void {
    const { upKbit, downKbit } = this.#options;
    batch(this.#lan.switchName, [
      `link add ${this.#port} type veth peer name ${INTERFACE} address ${this.#mac} netns ${this.namespace}`,
      `link set ${this.#port} master br0 up`,
    ]);
    this.ip(`link set ${INTERFACE} up`);
    this.setRate({ upKbit, downKbit });
    this.addAddresses(this.#options.addresses ?? 'v4');
  }

  /** Adds the addresses that DHCP or router advertisements would bring. */
  addAddresses(addresses: NonNullable<HostOptions['addresses']>): void {
    if (addresses.startsWith('v4')) this.ip(`address add ${this.ipv4}/24 dev ${INTERFACE}`);
    if (addresses === 'ula') this.ip(`address add ${this.ula}/64 dev ${INTERFACE} nodad`);
  }

  /** Deletes the interface, as a dock that is unplugged does. */
  detach(): void {
    this.ip(`link delete ${INTERFACE}`);
  }

  /** Pulls the cable, or puts it back; the interface stays. */
  setCable(isPlugged: boolean): void {
    batch(this.#lan.switchName, [`link set ${this.#port} ${isPlugged ? 'up' : 'down'}`]);
  }

  /** Limits the line from now on; undefined: no limit. */
  setRate({
    upKbit,
    downKbit,
  }: {
    readonly upKbit?: number | undefined;
    readonly downKbit?: number | undefined;
  }): void {
    limit(this.namespace, INTERFACE, upKbit);
    limit(this.#lan.switchName, this.#port, downKbit);
  }

  /** Returns the bytes that it has sent over its line so far, with headers. */
  sentBytes(): number {
    return Number(this.run('cat', `/sys/class/net/${INTERFACE}/statistics/tx_bytes`));
  }

  /** Returns the bytes that have arrived over its line so far, with headers. */
  receivedBytes(): number {
    return Number(this.run('cat', `/sys/class/net/${INTERFACE}/statistics/rx_bytes`));
  }

  /** Sends a signal to all processes in here: SIGSTOP as a closed lid, SIGKILL as a power cut. */
  signal(signal: NodeJS.Signals): void {
    signalAll(this.namespace, signal);
  }

  /** Drops all packets to another host, as if the way there were cut off. */
  cutOffFrom(host: Host): void {
    this.nft(`table inet cut {
      chain output {
        type filter hook output priority filter; policy accept;
        ip daddr ${host.ipv4} drop
      }
    }`);
  }

  /** Drops a share of the packets that arrive, at random: netem is not in every kernel. */
  lose(percent: number): void {
    this.nft(`table inet loss {
      chain input {
        type filter hook input priority -20; policy accept;
        iifname ${INTERFACE} numgen random mod 100 < ${percent} drop
      }
    }`);
  }

  /** Counts the bytes that arrive from each IPv4 host from now on, with headers. @returns reads the counts */
  countSenders(): () => ReadonlyMap<string, number> {
    this.nft(`table ip senders {
      set from {
        type ipv4_addr; size 1024; flags dynamic; counter;
      }
      chain input {
        type filter hook input priority -10; policy accept;
        iifname ${INTERFACE} update @from { ip saddr }
      }
    }`);
    return () =>
      new Map(
        Array.from(
          this.run('nft', 'list', 'set', 'ip', 'senders', 'from').matchAll(/([\d.]+) counter packets \d+ bytes (\d+)/g),
          ([, address = '', bytes]) => [address, Number(bytes)] as const,
        ),
      );
  }

  /** Routes packets for other networks through a host. */
  routeVia(gateway: Host): void {
    this.ip(`route replace default via ${gateway.ipv4} dev ${INTERFACE}`);
  }

  setFirewall({ tcp = [], udp = [] }: NonNullable<HostOptions['firewall']>): void {
    const accept = (protocol: string, ports: readonly number[]): string =>
      ports.length === 0 ? '' : `${protocol} dport { ${ports.join(', ')} } accept`;
    this.nft(`table inet firewall {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        ct state { established, related } accept
        ct state invalid drop
        icmp type echo-request accept
        icmpv6 type != { nd-redirect, 139 } accept
        ${accept('tcp', tcp)}
        ${accept('udp', udp)}
      }
    }`);
  }

  /** Loads rules of nftables. */
  nft(rules: string): void {
    run('ip', 'netns', 'exec', this.namespace, 'nft', rules);
  }

  /**
   * Counts packets beyond the local network from now on, and every question to a name server.
   *
   * @returns reads the count
   */
  countBeyond(): () => number {
    this.nft(`table inet beyond {
      counter sent { }
      chain output {
        type filter hook output priority filter; policy accept;
        ip daddr != { 127.0.0.0/8, ${this.#lan.subnet}.0/24, 224.0.0.0/4, 255.255.255.255 } counter name sent
        ip6 daddr != { ::1, fe80::/10, ${ULA_PREFIX}/64, ff00::/8 } counter name sent
        udp dport 53 counter name sent
        tcp dport 53 counter name sent
      }
    }`);
    return () => Number(/packets (\d+)/.exec(this.run('nft', 'list', 'counters'))?.[1]);
  }
}

let counter = 0;

/** Limits a line by a token bucket. Packets that do not fit wait up to a second, as in a home router. */
function limit(namespace: string, device: string, kbit: number | undefined): void {
  const inside = ['ip', 'netns', 'exec', namespace, 'tc', 'qdisc'] as const;
  if (kbit === undefined) {
    spawnSync(inside[0], [...inside.slice(1), 'del', 'dev', device, 'root'], { stdio: 'ignore' }); // there may be none
    return;
  }
  const burstBytes = Math.max(3000, Math.round((kbit * 1000) / 8 / 100));
  run(
    ...inside,
    'replace',
    'dev',
    device,
    'root',
    'tbf',
    'rate',
    `${kbit}kbit`,
    'burst',
    `${burstBytes}`,
    'latency',
    '1s',
  );
}

function batch(namespace: string, lines: readonly string[]): void {
  const result = spawnSync('ip', ['-netns', namespace, '-batch', '-'], { input: lines.join('\n'), encoding: 'utf8' });
  assert.equal(result.status, 0, `${lines.join('; ')}: ${result.error?.message ?? result.stderr}`);
}

function run(...[file, ...args]: readonly [string, ...string[]]): string {
  const result = spawnSync(file, args, { encoding: 'utf8' });
  assert.equal(result.status, 0, `${[file, ...args].join(' ')}: ${result.error?.message ?? result.stderr}`);
  return result.stdout;
}

/** Removes a namespace with its interfaces, and kills its processes. Only a test can have started them. */
function removeNamespace(namespace: string): void {
  signalAll(namespace, 'SIGKILL');
  spawnSync('ip', ['netns', 'delete', namespace], { stdio: 'ignore' });
}

function signalAll(namespace: string, signal: NodeJS.Signals): void {
  const pids = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).stdout ?? '';
  for (const pid of pids.split('\n').filter((line) => line !== '')) {
    try {
      process.kill(Number(pid), signal);
    } catch {
      // it has ended meanwhile
    }
  }
}

/** Removes namespaces of test processes that were killed before they could clean up. */
function removeAbandoned(): void {
  const running = new Set(readdirSync('/proc'));
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  for (const [namespace] of stdout.matchAll(new RegExp(`^${NAME_PREFIX}-\\S+`, 'gm'))) {
    if (!running.has(namespace.split('-')[2] ?? '')) removeNamespace(namespace);
  }
}
