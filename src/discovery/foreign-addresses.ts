import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';
import { ipVersion } from '../ip-version.ts';

/** Time for which a list of the network's interfaces is valid. */
const LOOK_AGAIN_MS = 10_000;

export interface ForeignAddressesOptions {
  /** True if the user has put this process on loopback, by `--listen`, `--peer` or `--dht-bootstrap`. */
  readonly onLoopback: boolean;
}

/**
 * Decides which addresses named by strangers (in the DHT, on the LAN, in a hash map) may be connected to. Refuses all
 * that lead back to this machine, since its services trust local connections.
 */
export class ForeignAddresses {
  readonly #options: ForeignAddressesOptions;
  #lookedAtMs = -Infinity;
  #never = new BlockList();
  #own = new BlockList();

  constructor(options: ForeignAddressesOptions) {
    this.#options = options;
  }

  /**
   * Returns true for an address of another machine, or of a process of this one at an address that others reach, too.
   */
  admits(host: string): boolean {
    this.#look();
    return !isIn(this.#never, host);
  }

  /** Returns true for an address of another machine. */
  admitsForeign(host: string): boolean {
    return this.admits(host) && !isIn(this.#own, host);
  }

  /** The addresses that a stranger's host name must not lead to. */
  get blockList(): BlockList {
    this.#look();
    return this.#never;
  }

  #look(): void {
    const now = performance.now();
    if (now - this.#lookedAtMs < LOOK_AGAIN_MS) return;
    this.#lookedAtMs = now;
    this.#never = new BlockList();
    // "This network" (Linux takes it for loopback), multicast, and the reserved addresses above it.
    this.#never.addSubnet('0.0.0.0', 8);
    this.#never.addSubnet('224.0.0.0', 3);
    this.#never.addAddress('::', 'ipv6');
    this.#never.addSubnet('ff00::', 8, 'ipv6');
    this.#own = new BlockList();
    if (this.#options.onLoopback) return;
    this.#never.addSubnet('127.0.0.0', 8);
    this.#never.addAddress('::1', 'ipv6');
    for (const { address, family } of Object.values(networkInterfaces()).flatMap((list) => list ?? [])) {
      this.#own.addAddress(address.split('%', 1)[0] ?? '', family === 'IPv4' ? 'ipv4' : 'ipv6');
    }
  }
}

/** Returns true for a loopback address, such as `--listen 127.0.0.1`. Does not look up names. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || isIn(LOOPBACK, host);
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8);
LOOPBACK.addAddress('::1', 'ipv6');

function isIn(list: BlockList, host: string): boolean {
  const [address = ''] = host.split('%', 1);
  const family = ipVersion(address);
  return family !== 0 && list.check(address, family === 4 ? 'ipv4' : 'ipv6');
}
