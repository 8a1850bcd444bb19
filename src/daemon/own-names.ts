import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { ipVersion } from '../ip-version.ts';

/**
 * Domains that cannot be owned on the internet (RFC 6762, RFC 6761, RFC 8375, and those that ICANN never delegates).
 */
const PRIVATE_DOMAINS = ['local', 'localdomain', 'lan', 'home.arpa', 'internal'];
const RESOLV_CONF = '/etc/resolv.conf';

export interface OwnNamesOptions {
  /** Name of the machine, with or without its domain. Default: that of the system. */
  readonly own?: string;
  /** Domains of the local network. Default: the search domains of the resolver (resolv.conf). */
  readonly domains?: readonly string[];
  /** Further names of this machine. */
  readonly further?: readonly string[];
}

/**
 * The names under which a browser or Nix may ask this machine. A web page could otherwise read what the machine serves,
 * under a name of the page's owner that leads here (DNS rebinding); `nixos.example.org` is such a name even on a machine
 * that is called `nixos`.
 */
export class OwnNames {
  readonly #names: ReadonlySet<string>;

  constructor({ own = hostname(), domains = searchDomains(), further = [] }: OwnNamesOptions = {}) {
    const [first = ''] = own.split('.');
    const inDomains = [...PRIVATE_DOMAINS, ...domains].map((domain) => `${first}.${domain}`);
    this.#names = new Set(['localhost', own, first, ...inDomains, ...further].map(plain));
  }

  /** @param host a Host header: a name or an address, and perhaps a port */
  has(host: string): boolean {
    const name = plain(host.replace(/:\d*$/, ''));
    return ipVersion(name.replace(/^\[(.*)\]$/, '$1')) !== 0 || (name !== '' && this.#names.has(name));
  }
}

function plain(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** Returns the domains that the resolver appends to short names. */
function searchDomains(): string[] {
  try {
    return searchDomainsIn(readFileSync(RESOLV_CONF, 'utf8'));
  } catch {
    return []; // there is no such file
  }
}

/** @param text contents of a resolv.conf (resolv.conf(5): the last `search` or `domain` counts) */
export function searchDomainsIn(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim().split(/\s+/));
  const [, ...domains] = lines.findLast(([key]) => key === 'search' || key === 'domain') ?? [];
  return domains.filter((domain) => domain !== '.');
}
