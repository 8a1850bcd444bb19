/** The checks of the doctor and their findings, as facts. The command line puts them into words. */
import type { DhtAnswers } from './dht.ts';
import type { Listener } from './listeners.ts';
import type { FirewallManager, Passage } from './firewall.ts';
import type { Scope } from '../../discovery/scope.ts';
import type { PortMapping } from '../../discovery/gateway/mapping.ts';

/** `bad`: something does not work until somebody acts. `unsure`: this cannot be decided from here. */
export type Verdict = 'good' | 'unsure' | 'bad';

/** The facts of each check. */
export interface Findings {
  versions: {
    readonly narswarm: string;
    readonly node: string;
    /** Undefined if Nix is missing or does not say. */
    readonly nix: string | undefined;
    readonly oldestNix: string;
    readonly isMissing: boolean;
  };
  'nix-conf': {
    readonly substituters: readonly string[];
    readonly trustedKeys: number;
    readonly store: string | undefined;
    /** True if there is no folder of the Nix store. */
    readonly isAbsent: boolean;
    /** True if Nix accepts settings from this user. Undefined if it does not say. */
    readonly isTrustedUser: boolean | undefined;
    /** The reason why Nix cannot be asked, in its own words. */
    readonly failure: string | undefined;
    /** True if this user may not talk to the Nix daemon. Then `failure` has the way out. */
    readonly isDaemonDenied: boolean;
  };
  keys: {
    readonly trusted: readonly string[];
    readonly shared: readonly string[];
    readonly unknown: readonly string[];
    /** The reason why no key can be read. */
    readonly failure: string | undefined;
  };
  store: {
    readonly path: string;
    readonly exists: boolean;
    /** The system's error code if the folder cannot be written. */
    readonly failure: string | undefined;
    readonly freeBytes: number | undefined;
    readonly maxBytes: number | undefined;
  };
  clock: {
    readonly now: string;
    /** A recorded time that is later than now. */
    readonly later: string | undefined;
    /** The time at which a kept hash map expired. */
    readonly expired: string | undefined;
  };
  roots: {
    /** The subscription. */
    readonly name: string;
    /** Number of paths of its newest complete generation. */
    readonly paths: number;
    /** Those that are no longer valid in the store that they were imported into. */
    readonly collected: readonly string[];
    /** Some of those that nothing keeps there. */
    readonly rootless: readonly string[];
  };
  daemon: {
    readonly pid: number | undefined;
    readonly isAnotherMachine: boolean;
    /** The process of a `narswarm publish` that serves the store, if no daemon does. */
    readonly publisherPid?: number | undefined;
    /** Its TCP port for peers and its scope, if it answers. */
    readonly port?: number;
    readonly scope?: Scope;
  };
  port: {
    readonly protocol: 'tcp' | 'udp';
    readonly port: number;
    readonly purpose: 'peers' | 'dht' | 'http';
    readonly listener: Listener | undefined;
    /** True if it is one of narswarm's own processes. */
    readonly isOurs: boolean;
    /** The process of the store's daemon, if it runs on this machine. */
    readonly daemonPid: number | undefined;
  };
  reach: { readonly address: string; readonly port: number; readonly failure: string | undefined };
  firewall: {
    readonly protocol: 'tcp' | 'udp';
    readonly port: number;
    readonly purpose: 'peers' | 'dht' | 'http' | 'discovery' | 'mdns';
    readonly interface: string;
    readonly passage: Passage;
    /** The program whose rules were read. Undefined if none could be read. */
    readonly source: 'nftables' | 'iptables' | undefined;
    /** The chains that drop the packet or may drop it: family, table and name for nftables. */
    readonly barriers: readonly string[];
    readonly manager: FirewallManager | undefined;
  };
  interfaces: { readonly names: readonly string[] };
  multicast: {
    readonly interface: string;
    readonly isHeard: boolean;
    /** Number of other hosts that were heard. */
    readonly others: number;
    readonly failure: string | undefined;
  };
  router: {
    /** The mapping of the store's daemon. Undefined if no daemon answers, or if it was started without `map-port`. */
    readonly mapping: PortMapping | undefined;
    /** True if a daemon answers. */
    readonly isAsked: boolean;
    /** True if `map-port` is set, here or in the config file. */
    readonly isWanted: boolean;
  };
  dht: DhtAnswers & {
    readonly isUsed: boolean;
    /** True if something does not work without the DHT: a publisher without a mirror, or being found from afar. */
    readonly isNeeded: boolean;
    /** True if others should reach this machine from beyond the local network. */
    readonly isAnnounced: boolean;
    /** True if the nodes see another address than this machine's own. Undefined if they do not say. */
    readonly isBehindNat: boolean | undefined;
    /** True if the router maps the ports of the daemon. */
    readonly isMapped: boolean;
  };
}

export type Check = keyof Findings;

/** The result of one check. */
export type Finding = {
  readonly [Name in Check]: { readonly check: Name; readonly verdict: Verdict; readonly facts: Findings[Name] };
}[Check];

/** Makes a finding. */
export function found<Name extends Check>(check: Name, verdict: Verdict, facts: Findings[Name]): Finding {
  return { check, verdict, facts } as Finding;
}
