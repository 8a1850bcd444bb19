import type { Socket } from 'node:net';
import { LocalNetworks } from './local-networks.ts';

/** Who may connect to us: `lan` is loopback and the networks that this machine's interfaces are on. */
export type Serves = 'anyone' | 'lan' | 'nobody';

/** True where the scope lets this host have anything of ours, over whoever's connection. */
export function mayHave(serves: Serves, host: string, networks: Pick<LocalNetworks, 'includes'>): boolean {
  return serves === 'anyone' || (serves === 'lan' && networks.includes(host));
}

/** Of these, how many may come from one address of the internet, so that no stranger takes them all. */
export const MAX_PER_STRANGER = 64;

/**
 * Turns connections away before a byte is read: those that the scope does not admit, those from a host that has lied,
 * and too many from one host. Hosts of the local network may open any number, since a torrent needs a connection of
 * its own and a neighbour fetches hundreds at once.
 */
export class ConnectionGuard {
  readonly #serves: Serves;
  readonly #isBanned: (host: string) => boolean;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #open = new Map<string, number>();

  constructor(
    serves: Serves,
    isBanned: (host: string) => boolean,
    networks: Pick<LocalNetworks, 'includes'> = new LocalNetworks(),
  ) {
    this.#serves = serves;
    this.#isBanned = isBanned;
    this.#networks = networks;
  }

  /** True where this connection may go on; it counts until it is closed. */
  admit(socket: Pick<Socket, 'remoteAddress' | 'once'>): boolean {
    const host = socket.remoteAddress;
    if (host === undefined || this.#serves === 'nobody' || this.#isBanned(host)) return false;
    if (this.#networks.includes(host)) return true;
    const open = this.#open.get(host) ?? 0;
    if (this.#serves === 'lan' || open >= MAX_PER_STRANGER) return false;
    this.#open.set(host, open + 1);
    socket.once('close', () => this.#close(host));
    return true;
  }

  #close(host: string): void {
    const open = (this.#open.get(host) ?? 1) - 1;
    if (open > 0) this.#open.set(host, open);
    else this.#open.delete(host);
  }
}
