import type { NetworkInterfaceInfo } from 'node:os';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';

/** An address as node:os lists it, of `ADDRESS/PREFIX`. @param index of its interface */
export function asListed(cidr: string, index = 0): NetworkInterfaceInfo {
  const [address = ''] = cidr.split('/');
  const internal = address === '::1' || address.startsWith('127.');
  const common = { address, cidr, internal, mac: '00:00:00:00:00:00', netmask: '' };
  return address.includes(':')
    ? { ...common, family: 'IPv6', scopeid: address.startsWith('fe80') ? index : 0 }
    : { ...common, family: 'IPv4' };
}

/** A machine with one interface that has these addresses, `ADDRESS/PREFIX` each. */
export function networksOf(...cidrs: readonly string[]): LocalNetworks {
  return new LocalNetworks(() => ({ made0: cidrs.map((cidr) => asListed(cidr)) }));
}
