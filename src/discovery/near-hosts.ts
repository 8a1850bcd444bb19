import { lookup } from 'node:dns/promises';
import type { LocalNetworks } from './local-networks.ts';
import { ipVersion } from '../ip-version.ts';

/** Time for which an answer of a name server is valid. */
const FRESH_MS = 60_000;

interface Answer {
  isNear: boolean;
  askedAtMs: number;
}

/** Decides which hosts are on the local network. Accepts names, as in URLs of caches. */
export class NearHosts {
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #answers = new Map<string, Answer>();
  readonly #addressesOf: (name: string) => Promise<readonly string[]>;

  /** @param addressesOf resolves a name; replaced in tests */
  constructor(networks: Pick<LocalNetworks, 'includes'>, addressesOf = askSystem) {
    this.#networks = networks;
    this.#addressesOf = addressesOf;
  }

  /** Returns true for a host on the local network. A name counts as far away until the system has resolved it. */
  includes(host: string): boolean {
    if (host === '') return true; // the URL of a folder has no host
    const name = host.replace(/^\[(.*)\]$/, '$1');
    if (ipVersion(name.split('%', 1)[0] ?? '') !== 0) return this.#networks.includes(name);
    const known = this.#answers.get(name);
    if (known === undefined || performance.now() - known.askedAtMs > FRESH_MS) void this.#ask(name, known);
    return known?.isNear ?? false;
  }

  async #ask(name: string, last: Answer | undefined): Promise<void> {
    const answer = { isNear: last?.isNear ?? false, askedAtMs: performance.now() };
    this.#answers.set(name, answer);
    const addresses = await this.#addressesOf(name).catch(() => []);
    if (addresses.length > 0) answer.isNear = addresses.every((address) => this.#networks.includes(address));
  }
}

async function askSystem(name: string): Promise<readonly string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}
