/** The host of this machine that others reach it by, as the URL of a mirror names it. */
import { hostname } from 'node:os';
import type { LocalInterface, LocalNetworks } from './local-networks.ts';

/**
 * The address that this machine listens on, or the first of its first interface, IPv4 before IPv6; the machine's name if
 * it has none, such as before the network is up.
 *
 * @param listen what `--listen` says; undefined, `0.0.0.0` and `::` are every address
 */
export function ownHost(listen: string | undefined, networks: Pick<LocalNetworks, 'interfaces'>): string {
  const isOne = listen !== undefined && listen !== '0.0.0.0' && listen !== '::';
  if (isOne && !listen.includes('%')) return listen; // no URL has a zone
  const { interfaces } = networks;
  const ofFirst = (addresses: (one: LocalInterface) => readonly string[]): string | undefined =>
    interfaces.flatMap(addresses).at(0);
  return (
    ofFirst(({ ipv4 }) => ipv4.map(({ address }) => address)) ??
    ofFirst(({ ipv6 }) => ipv6.map(({ address }) => address).filter((address) => !address.startsWith('fe80:'))) ??
    hostname()
  );
}
