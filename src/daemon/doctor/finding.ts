/** What the doctor looks at, and what it finds: facts, of which the command line makes sentences. */
import type { Listener } from './listeners.ts';
import type { Passage } from './firewall.ts';

/** `bad`: something does not work until somebody does something. `unsure`: nobody can tell from here. */
export type Verdict = 'good' | 'unsure' | 'bad';

/** What is found, by what was looked at. */
export interface Findings {
  versions: { readonly narswarm: string; readonly node: string; readonly nix: string | undefined };
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
  };
  store: {
    readonly path: string;
    readonly exists: boolean;
    /** The system's code of the failure to write there. */
    readonly failure: string | undefined;
    readonly freeBytes: number | undefined;
    readonly maxBytes: number | undefined;
  };
  clock: { readonly now: string; /** Something that is dated later than now. */ readonly later: string | undefined };
  daemon: { readonly pid: number | undefined; readonly isAnotherMachine: boolean };
  port: {
    readonly protocol: 'tcp' | 'udp';
    readonly port: number;
    readonly purpose: 'peers' | 'dht' | 'http';
    readonly listener: Listener | undefined;
    /** Whether it is one of narswarm's own processes. */
    readonly isOurs: boolean;
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
  dht: { readonly isUsed: boolean };
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
