/** What the doctor looks at, and what it finds: facts, of which the command line makes sentences. */
import type { DhtAnswers } from './dht.ts';
import type { Listener } from './listeners.ts';
import type { Passage } from './firewall.ts';

/** `bad`: something does not work until somebody does something. `unsure`: nobody can tell from here. */
export type Verdict = 'good' | 'unsure' | 'bad';

/** What is found, by what was looked at. */
export interface Findings {
  versions: {
    readonly narswarm: string;
    readonly node: string;
    /** Undefined if Nix is missing or does not tell. */
    readonly nix: string | undefined;
    readonly oldestNix: string;
    readonly isMissing: boolean;
  };
  'nix-conf': {
    readonly substituters: readonly string[];
    readonly trustedKeys: number;
    readonly store: string | undefined;
    /** Whether Nix takes settings from this user; undefined if nobody says. */
    readonly isTrustedUser: boolean | undefined;
    /** Why Nix cannot be asked, in its own words. */
    readonly failure: string | undefined;
  };
  keys: {
    readonly trusted: readonly string[];
    readonly shared: readonly string[];
    readonly unknown: readonly string[];
    /** Why none can be read. */
    readonly failure: string | undefined;
  };
  store: {
    readonly path: string;
    readonly exists: boolean;
    /** The system's code of the failure to write there. */
    readonly failure: string | undefined;
    readonly freeBytes: number | undefined;
    readonly maxBytes: number | undefined;
  };
  clock: {
    readonly now: string;
    /** Something that is dated later than now. */
    readonly later: string | undefined;
    /** When a kept hash map expired. */
    readonly expired: string | undefined;
  };
  daemon: { readonly pid: number | undefined; readonly isAnotherMachine: boolean };
  port: {
    readonly protocol: 'tcp' | 'udp';
    readonly port: number;
    readonly purpose: 'peers' | 'dht' | 'http';
    readonly listener: Listener | undefined;
    /** Whether it is one of narswarm's own processes. */
    readonly isOurs: boolean;
    /** The daemon of the store, if it runs here. */
    readonly daemonPid: number | undefined;
  };
  reach: { readonly address: string; readonly port: number; readonly failure: string | undefined };
  firewall: {
    readonly protocol: 'tcp' | 'udp';
    readonly port: number;
    readonly purpose: 'peers' | 'dht' | 'http' | 'discovery' | 'mdns';
    readonly interface: string;
    readonly passage: Passage;
    /** What was read: the rules of which program; undefined if none could be read. */
    readonly source: 'nftables' | 'iptables' | undefined;
  };
  interfaces: { readonly names: readonly string[] };
  multicast: { readonly interface: string; readonly isHeard: boolean; readonly failure: string | undefined };
  dht: DhtAnswers & {
    readonly isUsed: boolean;
    /** True if something does not work without it: a publisher without a mirror, or being found from afar. */
    readonly isNeeded: boolean;
    /** True if others are to reach this machine from beyond the local network. */
    readonly isAnnounced: boolean;
    /** True if the nodes see another address than this machine's own; undefined if they do not tell. */
    readonly isBehindNat: boolean | undefined;
  };
}

export type Check = keyof Findings;

/** Something that was looked at. */
export type Finding = {
  readonly [Name in Check]: { readonly check: Name; readonly verdict: Verdict; readonly facts: Findings[Name] };
}[Check];

/** A finding of one kind. */
export function found<Name extends Check>(check: Name, verdict: Verdict, facts: Findings[Name]): Finding {
  return { check, verdict, facts } as Finding;
}
