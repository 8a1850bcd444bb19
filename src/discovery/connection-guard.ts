import type { Socket } from 'node:net';
import { MAX_CONNECTIONS, MAX_CONNECTIONS_PER_NEIGHBOUR, MAX_CONNECTIONS_PER_STRANGER } from '../wire/bounds.ts';
import { ConnectionLimits, connectionsWithin } from '../wire/connection-limits.ts';
import { LocalNetworks } from './local-networks.ts';

/** Hosts that may connect to us: `lan` is loopback and the networks that this machine's interfaces are on. */
export type Serves = 'anyone' | 'lan' | 'nobody';

/** True where the scope lets this host have anything of ours, over whoever's connection. */
export function mayHave(serves: Serves, host: string, networks: Pick<LocalNetworks, 'includes'>): boolean {
  return serves === 'anyone' || (serves === 'lan' && networks.includes(host));
}

/**
 * Turns connections away before a byte is read: those that the scope does not admit, those from a host that has lied,
 * and too many from one host.
 */
export class ConnectionGuard {
  readonly #serves: Serves;
  readonly #isBanned: (host: string) => boolean;
  readonly #networks: Pick<LocalNetworks, 'includes'>;
  readonly #limits: ConnectionLimits;

  constructor(
    serves: Serves,
    isBanned: (host: string) => boolean,
    networks: Pick<LocalNetworks, 'includes'> = new LocalNetworks(),
    total = MAX_CONNECTIONS,
  ) {
    this.#serves = serves;
    this.#isBanned = isBanned;
    this.#networks = networks;
    this.#limits = new ConnectionLimits({
      total: connectionsWithin(total),
      perHost: (host) => (networks.includes(host) ? MAX_CONNECTIONS_PER_NEIGHBOUR : MAX_CONNECTIONS_PER_STRANGER),
    });
  }

  /** True where this connection may go on; it counts until it is closed. */
  admit(socket: Pick<Socket, 'remoteAddress' | 'once' | 'destroy'>): boolean {
    const host = socket.remoteAddress;
    if (host === undefined || this.#isBanned(host) || !mayHave(this.#serves, host, this.#networks)) return false;
    return this.#limits.admit(socket);
  }
}
