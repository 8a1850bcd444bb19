import type { Socket } from 'node:net';
import { MAX_CONNECTIONS, MAX_CONNECTIONS_PER_NEIGHBOUR, MAX_CONNECTIONS_PER_STRANGER } from '../wire/bounds.ts';
import { ConnectionLimits, connectionsWithin } from '../wire/connection-limits.ts';
import { LocalNetworks } from './local-networks.ts';

/** Hosts that may connect to us. `lan`: loopback and the networks of this machine's interfaces. */
export type Serves = 'anyone' | 'lan' | 'nobody';

/** Returns true if the scope lets this host have our NARs. It does not matter which side made the connection. */
export function mayHave(serves: Serves, host: string, networks: Pick<LocalNetworks, 'includes'>): boolean {
  return serves === 'anyone' || (serves === 'lan' && networks.includes(host));
}

/**
 * Refuses connections before a byte is read. Refuses hosts outside the scope, hosts that lied, and too many connections
 * from one host.
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

  /** Returns true if this connection may continue. It counts until it is closed. */
  admit(socket: Pick<Socket, 'remoteAddress' | 'once' | 'destroy'>): boolean {
    const host = socket.remoteAddress;
    if (host === undefined || this.#isBanned(host) || !mayHave(this.#serves, host, this.#networks)) return false;
    return this.#limits.admit(socket);
  }
}
