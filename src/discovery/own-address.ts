/** Finds the host name or address at which others reach this machine, for the URL of a mirror. */
import { hostname } from 'node:os';
import type { LocalInterface, LocalNetworks } from './local-networks.ts';

/**
 * Returns the address that this machine listens on, or the first one of its first interface, IPv4 before IPv6. Returns
 * the machine's name if it has none, for example before the network is up.
 *
 * @param listen the value of `--listen`; undefined, `0.0.0.0` and `::` mean every address
 */
export function ownHost(listen: string | undefined, networks: Pick<LocalNetworks, 'interfaces'>): string {
  const isOne = listen !== undefined && listen !== '0.0.0.0' && listen !== '::';
  if (isOne && !listen.includes('%')) return listen; // URLs have no zones
  const { interfaces } = networks;
  const ofFirst = (addresses: (one: LocalInterface) => readonly string[]): string | undefined =>
    interfaces.flatMap(addresses).at(0);
  return (
    ofFirst(({ ipv4 }) => ipv4.map(({ address }) => address)) ??
    ofFirst(({ ipv6 }) => ipv6.map(({ address }) => address).filter((address) => !address.startsWith('fe80:'))) ??
    hostname()
  );
}
